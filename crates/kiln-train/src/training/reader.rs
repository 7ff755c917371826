//! The threads beside the loop: one reads numbers from the device, the other writes checkpoints.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{self, SyncSender};
use std::thread::Scope;

use burn::tensor::TensorReadError;

use super::panics;
use super::recorder::{Entry, Recorder};
use super::sums::StepSums;
use crate::error::TrainError;

/// How many entries may wait; a loop that is further ahead waits too.
const WAITING: usize = 8;

enum Work {
    Read(Entry, Box<StepSums>),
    Flush(SyncSender<()>),
}

/// Something to be written.
type Write = Box<dyn FnOnce() -> Result<(), TrainError> + Send>;

/// Reads entries in order on one thread and writes on another, until it is dropped. What goes wrong arrives at the recorder.
pub(crate) struct Reader {
    entries: SyncSender<Work>,
    writes: SyncSender<Write>,
}

impl Reader {
    pub(crate) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        recorder: &'scope Recorder,
    ) -> Self {
        Self {
            entries: worker(scope, recorder, WAITING, |work| match work {
                Work::Read(entry, sums) => record(recorder, &entry, &sums)
                    .map_err(|error| TrainError::Backend(error.to_string())),
                Work::Flush(done) => {
                    let _ = done.send(());
                    Ok(())
                }
            }),
            writes: worker(scope, recorder, 1, |write: Write| write()),
        }
    }

    /// Reads the sums of some steps and hands them to the recorder.
    pub(crate) fn read(&self, entry: Entry, sums: StepSums) {
        // Both threads live as long as this.
        let _ = self.entries.send(Work::Read(entry, Box::new(sums)));
    }

    /// Waits until all that was given to be read is read.
    pub(crate) fn flush(&self) {
        let (sender, receiver) = mpsc::sync_channel(1);
        let _ = self.entries.send(Work::Flush(sender));
        let _ = receiver.recv();
    }

    /// Writes something after all that was given to be written before.
    pub(crate) fn write(&self, write: impl FnOnce() -> Result<(), TrainError> + Send + 'static) {
        let _ = self.writes.send(Box::new(write));
    }
}

/// A thread that does what it is sent.
fn worker<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    recorder: &'scope Recorder,
    waiting: usize,
    mut done: impl FnMut(T) -> Result<(), TrainError> + Send + 'scope,
) -> SyncSender<T> {
    let (sender, receiver) = mpsc::sync_channel::<T>(waiting);
    scope.spawn(move || {
        panics::joined();
        for work in receiver {
            let done = AssertUnwindSafe(|| done(work));
            match std::panic::catch_unwind(done) {
                Ok(Ok(())) => (),
                Ok(Err(error)) => recorder.fail(error),
                Err(panic) => recorder.panicked(panics::of_payload(&*panic)),
            }
        }
    });
    sender
}

fn record(recorder: &Recorder, entry: &Entry, sums: &StepSums) -> Result<(), TensorReadError> {
    let read = sums.read_sums()?;
    for (step, health) in sums.gradients().health()? {
        recorder.record_health(entry.epoch, step, &health);
    }
    recorder.record(entry, &read);
    Ok(())
}
