//! Locks that outlive a panic of their holder.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose holder may have panicked. Holders leave their data whole at every point where user code, which
/// may panic, can run.
///
/// ```
/// use std::sync::Mutex;
///
/// let count = Mutex::new(1);
/// *kiln_tune::sync::lock(&count) += 1;
/// assert_eq!(*kiln_tune::sync::lock(&count), 2);
/// ```
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
