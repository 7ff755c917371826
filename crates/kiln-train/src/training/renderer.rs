//! burn-train's dashboard, fed with what is read of a run.

use std::sync::Arc;

#[cfg(feature = "dashboard")]
use burn::train::Interrupter;
use burn::train::metric::{
    MetricAttributes, MetricDefinition, MetricEntry, MetricId, NumericAttributes, NumericEntry,
    SerializedEntry,
};
use burn::train::renderer::{MetricState, MetricsRenderer};

use super::recorder::{Entry, Part};
use super::sums::Scores;

/// A dashboard on the terminal, closed when it is dropped. `Ctrl-C` works in it as it does elsewhere.
pub(crate) struct Dashboard {
    renderer: Box<dyn MetricsRenderer>,
    steps_per_epoch: usize,
    /// Metrics that it knows of.
    known: Vec<MetricId>,
    part: Option<Part>,
}

impl Dashboard {
    /// Opens it for a run of so many epochs, `done` of which are behind it.
    #[cfg(feature = "dashboard")]
    pub(crate) fn open(
        interrupter: Interrupter,
        label: &str,
        epochs: usize,
        done: usize,
        steps_per_epoch: usize,
    ) -> Self {
        use burn::train::renderer::tui::TuiMetricsRendererWrapper;
        let renderer = TuiMetricsRendererWrapper::new(interrupter, Some(done));
        #[cfg(unix)]
        keep_ctrl_c();
        let mut renderer: Box<dyn MetricsRenderer> = Box::new(renderer);
        renderer.start(epochs, done + 1, None, Some(label));
        Self {
            renderer,
            steps_per_epoch,
            known: Vec::new(),
            part: None,
        }
    }

    /// Shows scores, of the steps since the last ones and of the epoch so far, and the mean norms of their gradients.
    pub(crate) fn update(
        &mut self,
        entry: &Entry,
        [now, epoch]: [&Scores; 2],
        norms: [Option<f64>; 2],
    ) {
        if self.part != Some(entry.part) {
            if self.part.is_some() {
                self.renderer.end_split();
            }
            let (split, items) = match entry.part {
                Part::Train => ("train", self.steps_per_epoch),
                Part::Valid => ("valid", 1),
            };
            self.renderer.start_split(split, items);
            self.part = Some(entry.part);
        }
        self.show(entry.part, "Loss", false, now.loss, epoch.loss);
        for ((name, now), (_, epoch)) in now.metrics.iter().zip(&epoch.metrics) {
            let lower = name == "pixel_error" || name == "mae";
            self.show(entry.part, name, !lower, *now, *epoch);
        }
        if let [Some(now), Some(epoch)] = norms {
            self.show(entry.part, "Gradient norm", false, now, epoch);
        }
        if entry.part == Part::Train {
            self.show(entry.part, "Learning Rate", false, entry.lr, entry.lr);
        }
        self.renderer.update_split(match entry.part {
            Part::Train => entry.step - (entry.epoch - 1) * self.steps_per_epoch,
            Part::Valid => 1,
        });
    }

    pub(crate) fn end_epoch(&mut self, epoch: usize) {
        if self.part.take().is_some() {
            self.renderer.end_split();
        }
        self.renderer.update_epoch(epoch);
    }

    fn show(&mut self, part: Part, name: &str, higher_is_better: bool, now: f64, epoch: f64) {
        let name = Arc::new(name.to_owned());
        let id = MetricId::new(name.clone());
        if !self.known.contains(&id) {
            self.known.push(id.clone());
            self.renderer.register_metric(MetricDefinition {
                metric_id: id.clone(),
                name,
                description: None,
                attributes: MetricAttributes::Numeric(NumericAttributes {
                    unit: None,
                    higher_is_better,
                }),
            });
        }
        let value = NumericEntry::Value(now);
        let text = SerializedEntry::new(
            format!("epoch {epoch:.4} - now {now:.4}"),
            value.serialize(),
        );
        let state = MetricState::Numeric(MetricEntry::new(id, text), Some(value));
        match part {
            Part::Train => self.renderer.update_train(state),
            Part::Valid => self.renderer.update_valid(state),
        }
    }
}

/// The dashboard puts the terminal into raw mode, in which Ctrl-C is a key like any other. This
/// makes it a signal again.
#[cfg(all(unix, feature = "dashboard"))]
fn keep_ctrl_c() {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    // The renderer's thread enters raw mode at its own time.
    let terminal = std::io::stdin();
    for _ in 0..200 {
        let Ok(mut settings) = tcgetattr(&terminal) else {
            return;
        };
        if !settings.local_modes.contains(LocalModes::ICANON) {
            settings.local_modes |= LocalModes::ISIG;
            let _ = tcsetattr(&terminal, OptionalActions::Now, &settings);
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
