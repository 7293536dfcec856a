//! Where a network ends that nobody judges with any more.
//!
//! Giving back the memory of a large network takes tens of milliseconds: more than a judge has between two parts,
//! and more than control may take while others wait for its lock. A thread of its own does it.

use std::ops::{Deref, DerefMut};
use std::sync::mpsc::{Sender, channel};
use std::thread::Builder;

/// The lane to the thread in which values are dropped.
pub struct DropThread<T>(Sender<T>);

impl<T: Send + 'static> DropThread<T> {
    /// Starts the thread, which ends with the last lane to it.
    ///
    /// # Errors
    /// The system's, when it cannot start a thread.
    pub fn start() -> std::io::Result<Self> {
        let (to, values) = channel::<T>();
        let body = move || values.into_iter().for_each(drop);
        Builder::new().name("drop".into()).spawn(body)?;
        Ok(DropThread(to))
    }

    /// A value that is dropped in this thread, wherever it is let go.
    pub fn takes(&self, value: T) -> DeferredDrop<T> {
        DeferredDrop {
            value: Some(value),
            thread: self.clone(),
        }
    }
}

impl<T> Clone for DropThread<T> {
    fn clone(&self) -> Self {
        DropThread(self.0.clone())
    }
}

/// A value that is dropped in a [`DropThread`].
pub struct DeferredDrop<T> {
    /// `None` only while this is dropped.
    value: Option<T>,
    thread: DropThread<T>,
}

const HERE: &str = "a value stays until it is dropped";

impl<T> DeferredDrop<T> {
    /// The value itself, which ends where it is dropped.
    pub fn into_inner(mut self) -> T {
        self.value.take().expect(HERE)
    }
}

impl<T> Deref for DeferredDrop<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect(HERE)
    }
}

impl<T> DerefMut for DeferredDrop<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect(HERE)
    }
}

impl<T> Drop for DeferredDrop<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            // If the thread is gone, the value comes back and ends here.
            let _ = self.thread.0.send(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::{ThreadId, current};

    struct Tells(Sender<ThreadId>);

    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.send(current().id()).unwrap();
        }
    }

    #[test]
    fn a_value_ends_in_the_other_thread_unless_it_is_taken_out() {
        let thread = DropThread::start().unwrap();
        let (to, ended) = channel();
        drop(thread.takes(Tells(to.clone())));
        assert_ne!(ended.recv().unwrap(), current().id());
        drop(thread.takes(Tells(to)).into_inner());
        assert_eq!(ended.recv().unwrap(), current().id());
    }
}
