//! What burn-train draws on.

#[cfg(feature = "dashboard")]
use burn::train::Interrupter;
use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::MetricDefinition;
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};

/// Burn's dashboard. `Ctrl-C` works in it as it does elsewhere.
#[cfg(feature = "dashboard")]
pub(crate) fn dashboard(interrupter: Interrupter, epochs_done: usize) -> Box<dyn MetricsRenderer> {
    use burn::train::renderer::tui::TuiMetricsRendererWrapper;
    let renderer = TuiMetricsRendererWrapper::new(interrupter, Some(epochs_done));
    #[cfg(unix)]
    keep_ctrl_c();
    Box::new(renderer)
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

/// Draws nothing: progress lines come from the recorder.
pub(crate) struct Silent;

impl MetricsRenderer for Silent {
    fn manual_close(&mut self) {}
    fn register_metric(&mut self, _: MetricDefinition) {}
}

impl MetricsRendererTraining for Silent {
    fn update_train(&mut self, _: MetricState) {}
    fn update_valid(&mut self, _: MetricState) {}
}

impl MetricsRendererEvaluation for Silent {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl TrainingProgressLogger for Silent {
    fn start(&mut self, _: usize, _: usize, _: Option<usize>, _: Option<&str>) {}
    fn update_epoch(&mut self, _: usize) {}
    fn start_split(&mut self, _: &str, _: usize) {}
    fn update_split(&mut self, _: usize) {}
    fn end_split(&mut self) {}
    fn end(&mut self) {}
    fn log_event_training(&mut self, _: String) {}
}

impl EvaluationProgressLogger for Silent {
    fn start_global_progress(&mut self, _: usize) {}
    fn start_test(&mut self, _: &str, _: usize) {}
    fn update_test_progress(&mut self, _: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _: String) {}
}
