//! stub
use clap::Args;
#[derive(Args, Debug)]
pub struct Arguments {}
pub fn run(_: Arguments) -> anyhow::Result<()> {
    Ok(())
}
