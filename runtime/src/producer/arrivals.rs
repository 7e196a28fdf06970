//! The wake-up behind acknowledgements: librdkafka says that its queue is no longer empty, on a thread of its
//! own; whoever drives the producer is woken and empties it. Without this, a thread of ours would sleep on the
//! queue, and every acknowledgement would wake it first and the thread that waits for it afterwards.
#![allow(
    unsafe_code,
    reason = "rdkafka has no safe way to be told that a producer's queue has events"
)]

use std::{ffi::c_void, sync::Arc};

use rdkafka::bindings;
use tokio::sync::Notify;

/// A producer's queue of events, watched. Must be dropped before its producer is.
pub(super) struct Arrivals {
    queue: *mut bindings::rd_kafka_queue_t,
    notify: Arc<Notify>,
}

// SAFETY: librdkafka's queues are guarded by a lock of their own and may be used from any thread.
unsafe impl Send for Arrivals {}
// SAFETY: as above.
unsafe impl Sync for Arrivals {}

extern "C" fn arrived(_: *mut bindings::rd_kafka_t, notify: *mut c_void) {
    // SAFETY: `watch` gives the address of a `Notify` that lives until `drop` has taken this callback away,
    // under the lock under which it is called.
    let notify = unsafe { &*notify.cast::<Notify>() };
    notify.notify_one();
}

impl Arrivals {
    /// # Safety
    /// `client` is a live handle, and outlives what is returned.
    pub(super) unsafe fn watch(client: *mut bindings::rd_kafka_t) -> Self {
        let notify = Arc::new(Notify::new());
        // SAFETY: the caller's promise; the opaque pointer is that of the `Arc` held beside the queue.
        let queue = unsafe {
            let queue = bindings::rd_kafka_queue_get_main(client);
            let opaque = Arc::as_ptr(&notify).cast_mut().cast();
            bindings::rd_kafka_queue_cb_event_enable(queue, Some(arrived), opaque);
            queue
        };
        Self { queue, notify }
    }

    /// Told after each change from empty to not empty, also where nobody waits yet.
    pub(super) fn notify(&self) -> Arc<Notify> {
        Arc::clone(&self.notify)
    }

    pub(super) fn is_empty(&self) -> bool {
        // SAFETY: the queue is ours until `drop`.
        unsafe { bindings::rd_kafka_queue_length(self.queue) == 0 }
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        // SAFETY: the queue is ours, and nobody uses it afterwards.
        unsafe {
            bindings::rd_kafka_queue_cb_event_enable(self.queue, None, std::ptr::null_mut());
            bindings::rd_kafka_queue_destroy(self.queue);
        }
        // Whoever drives the producer learns that it is gone.
        self.notify.notify_one();
    }
}
