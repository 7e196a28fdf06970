//! Tools around the router: receiver, `send`, `demo`, `bench`. None of them is part of the product: they
//! speak to it as senders and receivers do, and read its topics as any consumer may.

pub mod bench;
pub mod control;
pub mod demo;
pub mod http;
pub mod load;
pub mod local_env;
pub mod receiver;
pub mod send;
