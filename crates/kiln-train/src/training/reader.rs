//! The thread that reads numbers from the device while the loop goes on.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{self, SyncSender};
use std::thread::Scope;

use burn::tensor::TensorReadError;

use super::panics;
use super::recorder::{Entry, Recorder};
use super::sums::StepSums;
use crate::error::TrainError;

/// How many pieces of work may wait; a loop that is further ahead waits too.
const WAITING: usize = 8;

enum Work {
    Read(Entry, Box<StepSums>),
    Then(Box<dyn FnOnce() -> Result<(), TrainError> + Send>),
    Flush(SyncSender<()>),
}

impl Work {
    fn done(self, recorder: &Recorder) -> Result<(), TrainError> {
        match self {
            Self::Read(entry, sums) => record(recorder, &entry, &sums)
                .map_err(|error| TrainError::Backend(error.to_string())),
            Self::Then(work) => work(),
            Self::Flush(done) => {
                let _ = done.send(());
                Ok(())
            }
        }
    }
}

/// Does its work in order, on a thread of its own, until it is dropped. What goes wrong arrives at the recorder.
pub(crate) struct Reader(SyncSender<Work>);

impl Reader {
    pub(crate) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        recorder: &'scope Recorder,
    ) -> Self {
        let (sender, receiver) = mpsc::sync_channel::<Work>(WAITING);
        scope.spawn(move || {
            panics::joined();
            for work in receiver {
                let done = AssertUnwindSafe(|| work.done(recorder));
                match std::panic::catch_unwind(done) {
                    Ok(Ok(())) => (),
                    Ok(Err(error)) => recorder.fail(error),
                    Err(panic) => recorder.panicked(panics::of_payload(&*panic)),
                }
            }
        });
        Self(sender)
    }

    /// Reads the sums of some steps and hands them to the recorder.
    pub(crate) fn read(&self, entry: Entry, sums: StepSums) {
        self.send(Work::Read(entry, Box::new(sums)));
    }

    /// Does something after all that was given before.
    pub(crate) fn then(&self, work: impl FnOnce() -> Result<(), TrainError> + Send + 'static) {
        self.send(Work::Then(Box::new(work)));
    }

    /// Waits until all that was given is done.
    pub(crate) fn flush(&self) {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.send(Work::Flush(sender));
        let _ = receiver.recv();
    }

    fn send(&self, work: Work) {
        // The thread lives as long as this.
        let _ = self.0.send(work);
    }
}

fn record(recorder: &Recorder, entry: &Entry, sums: &StepSums) -> Result<(), TensorReadError> {
    let read = sums.read_sums()?;
    for (step, health) in sums.gradients().health()? {
        recorder.record_health(entry.epoch, step, &health);
    }
    recorder.record(entry, &read);
    Ok(())
}
