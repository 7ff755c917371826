//! What the output of one program says as a whole: its reports, its values and its notes.

use std::collections::BTreeSet;

use super::lines::{Line, Said, parse_line};
use super::metric::Columns;
use super::object::{Notes, Object};

/// The output of a program, line by line.
pub(crate) struct Transcript<'a> {
    /// The names of the values; empty when they are the last numbers.
    metrics: &'a [String],
    n_objectives: usize,
    columns: Option<Columns>,
    /// The step that was named last.
    step: Option<i64>,
    /// A value of a step that is not at its end, so that a later one may replace it.
    pending: Option<Report>,
    reported: BTreeSet<i64>,
    /// The metrics of one step that were found so far, when there are several objectives.
    gathered: (Option<i64>, Vec<Option<f64>>),
    /// What the last `{"value": ...}` says.
    result: Option<Spoken>,
    /// The last report, or the last numbers.
    latest: Option<Spoken>,
    /// The last value of each metric.
    named: Vec<Option<f64>>,
    /// What objects without a value say.
    notes: Notes,
    /// The keys of the last object that says nothing known.
    unknown: Option<Vec<String>>,
}

/// Values with what was said together with them.
#[derive(Debug, Default)]
struct Spoken {
    values: Vec<f64>,
    notes: Notes,
}

/// Intermediate values, one per objective.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Report {
    pub(crate) step: i64,
    pub(crate) values: Vec<f64>,
}

impl<'a> Transcript<'a> {
    pub(crate) fn new(metrics: &'a [String], n_objectives: usize) -> Self {
        Self {
            metrics,
            n_objectives,
            columns: None,
            step: None,
            pending: None,
            reported: BTreeSet::new(),
            gathered: (None, Vec::new()),
            result: None,
            latest: None,
            named: vec![None; metrics.len()],
            notes: Notes::default(),
            unknown: None,
        }
    }

    /// Reads a line, and returns the reports that are due.
    ///
    /// # Errors
    /// Says what is wrong with an object that has a value.
    pub(crate) fn read(&mut self, line: &str) -> Result<Vec<Report>, String> {
        let line = parse_line(line, self.metrics, self.n_objectives, &mut self.columns)?;
        let mut due = Vec::new();
        if let Some(step) = line.step {
            due.extend(self.pending.take_if(|pending| pending.step != step));
        }
        let report = self.take(&line)?;
        if line.step.is_some() && !matches!(line.said, Said::Object(_)) {
            self.step = line.step;
        }
        if let Some(report) = report {
            if line.progress == Some(false) {
                self.pending = Some(report);
            } else {
                self.pending.take_if(|pending| pending.step == report.step);
                due.push(report);
            }
        }
        // A text repeats itself; an object that repeats a step is warned of, as in Optuna.
        let is_object = matches!(line.said, Said::Object(_));
        due.retain(|report| self.reported.insert(report.step) || is_object);
        Ok(due)
    }

    /// Keeps what a line says; returns its report, if it is one.
    fn take(&mut self, line: &Line) -> Result<Option<Report>, String> {
        match &line.said {
            Said::Object(Object {
                values: None,
                notes,
            }) => {
                self.notes.add(notes);
                Ok(None)
            }
            Said::Object(Object {
                values: Some(values),
                notes,
            }) => {
                if values.len() != self.n_objectives {
                    // Programs with several objectives may still say how one of them gets on.
                    if self.n_objectives > 1 && line.step.is_some() {
                        return Ok(None);
                    }
                    return Err(format!(
                        "the program printed {} of {} values in one object",
                        values.len(),
                        self.n_objectives
                    ));
                }
                let spoken = Spoken {
                    values: values.clone(),
                    notes: notes.clone(),
                };
                let report = line.step.map(|step| Report {
                    step,
                    values: values.clone(),
                });
                if report.is_some() {
                    self.latest = Some(spoken);
                } else {
                    self.result = Some(spoken);
                }
                Ok(report)
            }
            Said::Keys(keys) => {
                self.unknown = Some(keys.clone());
                Ok(None)
            }
            Said::Metrics(found, notes) => {
                if found.iter().all(Option::is_none) {
                    return Ok(None);
                }
                for (known, found) in self.named.iter_mut().zip(found) {
                    *known = found.or(*known);
                }
                self.latest = Some(Spoken {
                    values: self.named.iter().copied().flatten().collect(),
                    notes: notes.clone(),
                });
                let step = line.step.or(self.step);
                Ok(step.and_then(|step| self.gather(step, found)))
            }
            Said::Report(numbers) | Said::Numbers(numbers) => {
                if numbers.is_empty() || numbers.len() < self.n_objectives {
                    return Ok(None);
                }
                let values = numbers[numbers.len() - self.n_objectives..].to_vec();
                self.latest = Some(Spoken {
                    values: values.clone(),
                    notes: Notes::default(),
                });
                // `25/25 - loss: 0.9` below `Epoch 1/10`; other lines below it may be about anything.
                let below = self.step.filter(|_| line.progress.is_some());
                Ok(line.step.or(below).map(|step| Report { step, values }))
            }
        }
    }

    /// Adds what a line says of a step; returns its report once all objectives have a value, which may take several lines.
    fn gather(&mut self, step: i64, found: &[Option<f64>]) -> Option<Report> {
        if self.gathered.0 != Some(step) {
            self.gathered = (Some(step), vec![None; found.len()]);
        }
        for (known, found) in self.gathered.1.iter_mut().zip(found) {
            *known = found.or(*known);
        }
        let values = self
            .gathered
            .1
            .iter()
            .copied()
            .collect::<Option<Vec<f64>>>();
        values.map(|values| Report { step, values })
    }

    /// The report that waits for the end of its step, which the end of the program is.
    pub(crate) fn end(&mut self) -> Option<Report> {
        let pending = self.pending.take()?;
        self.reported.insert(pending.step).then_some(pending)
    }

    /// What is to be kept with the trial: that which was said with its value, and that which was said alone.
    pub(crate) fn notes(&self) -> Notes {
        let mut notes = self.notes.clone();
        if let Some(spoken) = self.result.as_ref().or(self.latest.as_ref()) {
            notes.add(&spoken.notes);
        }
        notes
    }

    /// The values of the program.
    ///
    /// # Errors
    /// Says what is missing, or that a value is NaN.
    pub(crate) fn values(self) -> Result<Vec<f64>, String> {
        let wanted = self.n_objectives;
        let missing: Vec<&str> = self
            .metrics
            .iter()
            .zip(&self.named)
            .filter(|(_, value)| value.is_none())
            .map(|(name, _)| name.as_str())
            .collect();
        let values = match (self.result, self.latest) {
            (Some(spoken), _) | (None, Some(spoken)) => spoken.values,
            (None, None) => Vec::new(),
        };
        if values.len() != wanted {
            let seen = match self.unknown {
                Some(keys) if !keys.is_empty() => {
                    format!("; its last JSON object has {}", keys.join(", "))
                }
                _ => String::new(),
            };
            return Err(if missing.is_empty() {
                format!(
                    "the program printed {} of {wanted} values; its last line of numbers is taken, or {{\"values\": [...]}}, or what is named by --metric NAME{seen}",
                    values.len()
                )
            } else {
                format!(
                    "the program printed no value of the metric {}{seen}",
                    missing.join(" and ")
                )
            });
        }
        if values.iter().any(|value| value.is_nan()) {
            return Err("the program printed NaN (or null) as its value".to_owned());
        }
        Ok(values)
    }
}

impl Notes {
    /// Adds what was said later, which counts where both have a name.
    fn add(&mut self, later: &Self) {
        for (name, value) in &later.constraints {
            self.constraints.retain(|(known, _)| known != name);
            self.constraints.push((name.clone(), *value));
        }
        for (name, value) in &later.attrs {
            self.attrs.retain(|(known, _)| known != name);
            self.attrs.push((name.clone(), value.clone()));
        }
        if later.scores.is_some() {
            self.scores.clone_from(&later.scores);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Reports = Vec<(i64, f64)>;

    /// The reports of some lines, and the values in the end.
    fn read(
        lines: &str,
        metrics: &[&str],
        n_objectives: usize,
    ) -> (Reports, Result<Vec<f64>, String>) {
        let metrics: Vec<String> = metrics.iter().map(|name| (*name).to_owned()).collect();
        let mut transcript = Transcript::new(&metrics, n_objectives);
        let mut reports = Vec::new();
        for line in lines.lines().flat_map(|line| line.split('\r')) {
            match transcript.read(line) {
                Ok(due) => reports.extend(due),
                Err(reason) => return (Vec::new(), Err(reason)),
            }
        }
        reports.extend(transcript.end());
        let reports = reports.iter().map(|report| (report.step, report.values[0]));
        (reports.collect(), transcript.values())
    }

    const KERAS_1: &str = "Epoch 1/2\n\
        \r 1/25 [>.............................] - ETA: 5s - loss: 2.3 - accuracy: 0.1\
        \r24/25 [===========================>..] - ETA: 0s - loss: 1.0 - accuracy: 0.4\
        \r25/25 [==============================] - 1s 20ms/step - loss: 0.9 - accuracy: 0.5 - val_loss: 0.8\n\
        Epoch 2/2\n\
        \r 1/25 [>.............................] - ETA: 5s - loss: 0.7 - accuracy: 0.6\
        \r25/25 [==============================] - 1s 20ms/step - loss: 0.6 - accuracy: 0.7 - val_loss: 0.5\n";
    const KERAS_2: &str = "Epoch 1/2\n25/25 - 1s - loss: 0.9 - val_loss: 0.8 - 1s/epoch - 20ms/step\nEpoch 2/2\n25/25 - 1s - 20ms/step - loss: 0.6 - val_loss: 0.5\n";

    #[test]
    fn keras_reports_its_metric_and_not_its_counters() {
        for log in [KERAS_1, KERAS_2] {
            let (reports, value) = read(log, &["val_loss"], 1);
            assert_eq!(reports, [(1, 0.8), (2, 0.5)]);
            assert_eq!(value, Ok(vec![0.5]));
            let (reports, value) = read(log, &["loss"], 1);
            assert_eq!(reports, [(1, 0.9), (2, 0.6)]);
            assert_eq!(value, Ok(vec![0.6]));
            // Without a name it is the last number of each epoch.
            let (reports, value) = read(log, &[], 1);
            assert_eq!(reports, [(1, 0.8), (2, 0.5)]);
            assert_eq!(value, Ok(vec![0.5]));
        }
        let (reports, value) = read("Epoch 1/10\n25/25 - loss: 0.9\n", &[], 1);
        assert_eq!((reports, value), (vec![(1, 0.9)], Ok(vec![0.9])));
    }

    #[test]
    fn progress_bars_report_at_the_end_of_an_epoch() {
        let log = "Epoch 0:   4%|4  | 1/25 [00:00<00:01, 20.33it/s, v_num=0, train_loss=2.3]\
            \rEpoch 0: 100%|###| 25/25 [00:01<00:00, 20.33it/s, v_num=0, train_loss=0.9]\n\
            Validation DataLoader 0: 100%|###| 5/5 [00:00<00:00, 50.02it/s]\n\
            Epoch 1:  96%|## | 24/25 [00:01<00:00, 20.33it/s, v_num=0, train_loss=0.6]\n";
        for metrics in [&["train_loss"][..], &[]] {
            let (reports, value) = read(log, metrics, 1);
            assert_eq!(reports, [(0, 0.9), (1, 0.6)], "{metrics:?}");
            assert_eq!(value, Ok(vec![0.6]));
        }
    }

    #[test]
    fn the_examples_of_pytorch_are_read() {
        let mnist = "Train Epoch: 1 [0/60000 (0%)]\tLoss: 2.3\nTrain Epoch: 1 [59520/60000 (99%)]\tLoss: 0.4\n\n\
            Test set: Average loss: 0.05, Accuracy: 9836/10000 (98%)\n\n\
            Train Epoch: 2 [0/60000 (0%)]\tLoss: 0.3\n\
            Test set: Average loss: 0.03, Accuracy: 9900/10000 (99%)\n";
        let (reports, value) = read(mnist, &["Average loss"], 1);
        assert_eq!(
            (reports, value),
            (vec![(1, 0.05), (2, 0.03)], Ok(vec![0.03]))
        );
        let words = "| epoch   1 |   200/ 2983 batches | lr 20.00 | ms/batch 15.1 | loss  7.64 | ppl  2073.36\n\
            | end of epoch   1 | time: 50.01s | valid loss  5.44 | valid ppl   230.99\n";
        let (reports, value) = read(words, &["valid loss"], 1);
        assert_eq!((reports, value), (vec![(1, 5.44)], Ok(vec![5.44])));
    }

    #[test]
    fn dictionaries_of_the_hugging_face_trainer_are_read() {
        let log = "{'loss': 0.9, 'grad_norm': 1.5, 'learning_rate': 5e-05, 'epoch': 0.5}\n\
            {'eval_loss': 0.8, 'eval_runtime': 1.2, 'eval_samples_per_second': 100.0, 'epoch': 1.0}\n\
            {'eval_loss': 0.7, 'eval_runtime': 1.2, 'eval_samples_per_second': 100.0, 'epoch': 2.0}\n\
            {'train_runtime': 9.5, 'train_loss': 0.75, 'epoch': 2.0}\n";
        let (reports, value) = read(log, &["eval_loss"], 1);
        assert_eq!((reports, value), (vec![(1, 0.8), (2, 0.7)], Ok(vec![0.7])));
        let (reports, value) = read(log, &[], 1);
        let reason = value.unwrap_err();
        assert!(
            reports.is_empty() && reason.contains("train_loss") && reason.contains("--metric"),
            "{reason}"
        );
    }

    #[test]
    fn tables_are_read_by_their_header() {
        let log = "epoch     train_loss  valid_loss  accuracy  time    \n\
            0         0.9         0.8         0.7       00:05   \n\
            1         0.6         0.5         0.8       00:05   \n";
        let (reports, value) = read(log, &["valid_loss"], 1);
        assert_eq!((reports, value), (vec![(0, 0.8), (1, 0.5)], Ok(vec![0.5])));
        let log = "      Epoch    GPU_mem   box_loss   cls_loss   dfl_loss  Instances       Size\n\
                   \r        1/2      2.15G      2.156        2.9       1.21         32        640:  50%|█████     | 4/8 [00:01<00:00,  5.2it/s]\
                   \r        1/2      2.15G      1.156        2.9       1.21         32        640: 100%|██████████| 8/8 [00:01<00:00,  5.2it/s]\n\
                                    Class     Images  Instances      Box(P          R      mAP50  mAP50-95): 100%|██████████| 4/4 [00:01<00:00,  3.21it/s]\n\
                                      all        128        929      0.645      0.541       0.61       0.45\n";
        let (reports, value) = read(log, &["box_loss"], 1);
        assert_eq!((reports, value), (vec![(1, 1.156)], Ok(vec![1.156])));
        let (reports, value) = read(log, &["mAP50-95"], 1);
        assert_eq!((reports, value), (vec![(1, 0.45)], Ok(vec![0.45])));
    }

    #[test]
    fn several_objectives_are_read_from_one_line_or_from_several() {
        let (reports, value) = read("Epoch 1 acc=0.5 loss=1,234.5\n", &["loss", "acc"], 2);
        assert_eq!((reports, value), (vec![(1, 1234.5)], Ok(vec![1234.5, 0.5])));
        let (_, value) = read("acc=0.5\nloss: 0.9\nacc=0.6\n", &["loss", "acc"], 2);
        assert_eq!(value, Ok(vec![0.9, 0.6]));
        let log = "{\"step\": 1, \"value\": 9}\n{\"values\": [0.9, 0.6]}\n";
        assert_eq!(read(log, &[], 2), (vec![], Ok(vec![0.9, 0.6])));
        let (_, value) = read("loss: 0.9\n", &["loss", "acc"], 2);
        assert!(value.unwrap_err().contains("acc"));
    }

    #[test]
    fn several_objectives_are_reported_once_all_have_a_value_at_the_step() {
        let reports = |log: &str, metrics: &[&str]| {
            let metrics: Vec<String> = metrics.iter().map(|name| (*name).to_owned()).collect();
            let mut transcript = Transcript::new(&metrics, 2);
            let mut reports = Vec::new();
            for line in log.lines().flat_map(|line| line.split('\r')) {
                reports.extend(transcript.read(line).unwrap());
            }
            reports.extend(transcript.end());
            let reports = reports.into_iter();
            reports.map(|r| (r.step, r.values)).collect::<Vec<_>>()
        };
        let both = ["loss", "acc"];
        let expected = vec![(1, vec![0.9, 0.5]), (2, vec![0.6, 0.7])];
        let one_line = "Epoch 1 loss 0.9 acc 0.5\nEpoch 2 loss 0.6 acc 0.7\n";
        assert_eq!(reports(one_line, &both), expected);
        let objects =
            "{\"step\": 1, \"values\": [0.9, 0.5]}\n{\"step\": 2, \"values\": [0.6, 0.7]}\n";
        assert_eq!(reports(objects, &[]), expected);
        let lines = "Epoch 1/2\nloss: 0.9\nacc: 0.5\nacc: 0.9\nEpoch 2/2\nloss: 0.6\nacc: 0.7\n";
        assert_eq!(reports(lines, &both), expected);
        let bars = "Epoch 1/2\n1/9 - loss: 5 - acc: 0\r9/9 - loss: 0.9 - acc: 0.5\nEpoch 2/2\n9/9 - loss: 0.6 - acc: 0.7\n";
        assert_eq!(reports(bars, &both), expected);
        // What one epoch lacks is not taken from the one before.
        let half = "Epoch 1 loss 0.9 acc 0.5\nEpoch 2 loss 0.6\nEpoch 3 acc 0.7\n";
        assert_eq!(reports(half, &both), expected[..1]);
        // One value of two is no report.
        assert_eq!(reports("{\"step\": 1, \"value\": 9}\n", &[]), []);
    }

    #[test]
    fn the_last_object_with_a_value_gives_value_constraints_and_notes_together() {
        let mut transcript = Transcript::new(&[], 1);
        for line in [
            r#"{"lr": 0.1, "epochs": 10}"#,
            r#"{"user_attrs": {"host": "a"}}"#,
            r#"{"value": 1, "constraints": {"c": 0.5, "d": 1}, "user_attrs": {"who": "first"}}"#,
            r#"{"step": 3, "value": 9, "constraints": {"c": 7}}"#,
            r#"{"value": 2, "constraints": {"c": -1}}"#,
            "Saved model 7",
        ] {
            transcript.read(line).unwrap();
        }
        let notes = transcript.notes();
        assert_eq!(notes.constraints, [("c".to_owned(), -1.0)]);
        assert_eq!(notes.attrs, [("host".to_owned(), "a".into())]);
        assert_eq!(transcript.values(), Ok(vec![2.0]));
    }

    #[test]
    fn null_and_nan_are_no_values() {
        for log in [
            "{\"step\": 1, \"value\": null}",
            "{\"value\": 1}\n{\"value\": null}",
            "{\"value\": NaN}",
            "nan",
            "Epoch 1 loss nan",
        ] {
            let (_, value) = read(log, &[], 1);
            assert!(value.unwrap_err().contains("NaN"), "{log}");
        }
        let (reports, _) = read("{\"step\": 1, \"value\": null}", &[], 1);
        assert!(matches!(reports[..], [(1, value)] if value.is_nan()));
    }

    #[test]
    fn objects_that_are_wrong_fail_with_a_reason() {
        for log in [
            "{\"step\": \"x\", \"value\": 1}",
            "{\"value\": \"high\"}",
            "{\"values\": [1, 2]}",
            "{\"step\": 1, \"values\": []}",
        ] {
            let (_, value) = read(log, &[], 1);
            assert!(value.is_err(), "{log}");
        }
        let (_, value) = read("{\"loss\": 0.5}", &[], 1);
        let reason = value.unwrap_err();
        assert!(
            reason.contains("0 of 1 values") && reason.contains("has loss"),
            "{reason}"
        );
        let (_, value) = read("{\"lr\": 0.5}\n0.25\n{\"seconds\": 3}", &[], 1);
        assert_eq!(value, Ok(vec![0.25]));
    }
}
