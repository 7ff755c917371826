//! Metrics that are read by their name: `loss: 0.9`, `loss=0.9`, `| loss | 0.9 |`, or a column of a table.

use std::sync::LazyLock;

use regex_lite::Regex;

use super::lines::regex;

/// The value that a line of text gives a metric.
///
/// The name must stand alone: `loss` is not found in `val_loss` or `train/loss`. Of several places the first counts where
/// no other word stands in front, so that `best loss 0.4, loss 0.5` gives 0.5. A counter is no value, and neither is the
/// percentage of a progress bar.
pub(crate) fn find(line: &str, name: &str) -> Option<f64> {
    if name.is_empty() {
        return None;
    }
    let exact = find_in(line, line, name);
    exact.or_else(|| find_in(line, &line.to_ascii_lowercase(), &name.to_ascii_lowercase()))
}

/// `searched` is the line itself or its lower case, with the same bytes everywhere.
fn find_in(line: &str, searched: &str, name: &str) -> Option<f64> {
    let mut qualified = None;
    for (at, _) in searched.match_indices(name) {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        if !stands_alone(before, after) {
            continue;
        }
        let Some(value) = value_after(after) else {
            continue;
        };
        let word_in_front = before.ends_with([' ', '\t'])
            && before.trim_end().ends_with(|c: char| c.is_alphabetic());
        if !word_in_front {
            return Some(value);
        }
        qualified.get_or_insert(value);
    }
    qualified
}

/// Whether a name is a word of its own between these two.
fn stands_alone(before: &str, after: &str) -> bool {
    let joins = |c: char| matches!(c, '-' | '/' | '.' | '@' | ':' | '\'');
    let mut behind = before.chars().rev();
    let free_in_front = match behind.next() {
        Some(c) if c.is_alphanumeric() || c == '_' => false,
        // `val-loss` and `train/loss` are other names, `- loss` and `INFO: loss` are not.
        Some(c) if joins(c) && c != ':' && c != '\'' => !behind
            .next()
            .is_some_and(|c| c.is_alphanumeric() || c == '_'),
        _ => true,
    };
    let mut ahead = after.chars();
    let free_behind = match ahead.next() {
        Some(c) if c.is_alphanumeric() || c == '_' => false,
        Some(c) if joins(c) && c != ':' && c != '\'' => !ahead
            .next()
            .is_some_and(|c| c.is_alphanumeric() || c == '_'),
        _ => true,
    };
    free_in_front && free_behind
}

/// The number behind a name, with what may stand between them.
fn value_after(text: &str) -> Option<f64> {
    static VALUE: LazyLock<Regex> = LazyLock::new(|| {
        regex(concat!(
            r#"^['"`\])}]*(?:\s*\([^()\d]*\))?(?:\s|[:=|│┃>≈~]|\.{2,}|->|=>|-\s|→|–|['"`]|\b(?:is|of|was)\b)*"#,
            r"[\[(]?(?:(?:tensor|array|np\.float\d+|float)\(\[?)?\s*",
            r"((?i)[-+]?(?:(?:\d{1,3}(?:,\d{3})+|\d[\d_]*)(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?|[-+]?(?:nan|inf(?:inity)?)|none|null)",
        ))
    });
    let found = VALUE.captures(text)?;
    let number = found.get(1)?;
    let (mut digits, mut rest) = (number.as_str(), &text[number.end()..]);
    // `1,234,5` is a list, whose first number is meant.
    let follows = |rest: &str| {
        let mut next = rest.chars();
        (next.next(), next.next().is_some_and(|c| c.is_ascii_digit()))
    };
    if digits.contains(',') && matches!(follows(rest), (Some(','), true)) {
        let at = digits.find(',')?;
        rest = &text[number.start() + at..];
        digits = &digits[..at];
    }
    let is_clock = matches!(follows(rest), (Some(':'), true));
    let is_bar = rest
        .trim_start()
        .strip_prefix('%')
        .is_some_and(|rest| rest.trim_start().starts_with(['|', '│']));
    let is_counter = rest
        .trim_start()
        .strip_prefix('/')
        .is_some_and(|rest| rest.trim_start().starts_with(|c: char| c.is_ascii_digit()));
    let goes_on = rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    if is_clock || is_bar || is_counter || goes_on {
        return None;
    }
    if digits.eq_ignore_ascii_case("none") || digits.eq_ignore_ascii_case("null") {
        return Some(f64::NAN);
    }
    digits.replace([',', '_'], "").parse().ok()
}

/// The header of a table, such as `epoch  train_loss  valid_loss`, whose rows follow.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Columns {
    header: String,
    division: usize,
}

/// The ways in which cells are divided, the surest first.
const DIVISIONS: [fn(&str) -> Vec<&str>; 5] = [
    |line| {
        let inside = line.trim_matches(['|', '│', '┃']);
        inside.split(['|', '│', '┃']).collect()
    },
    |line| line.split('\t').collect(),
    |line| line.split(',').collect(),
    |line| {
        let cells = line.split("  ").map(str::trim);
        cells.filter(|cell| !cell.is_empty()).collect()
    },
    |line| line.split_whitespace().collect(),
];

/// The last of them: every sentence is divided by its spaces, so that it takes a row of numbers to make a table.
const BY_SPACES: usize = DIVISIONS.len() - 1;

/// The names of a column of steps.
const STEPS: [&str; 5] = ["step", "global_step", "epoch", "iteration", "iter"];

impl Columns {
    /// What is known of the table after this line: a new header if it is one with a metric or a step, and nothing if it is
    /// one without.
    pub(crate) fn after(known: Option<Self>, line: &str, metrics: &[String]) -> Option<Self> {
        let line = without_bar(line);
        let is_header = |division: usize| {
            let cells = DIVISIONS[division](line);
            cells.len() > 1 && cells.iter().all(|cell| cell_number(cell).is_none())
        };
        let new = (0..DIVISIONS.len()).find(|division| {
            let cells = DIVISIONS[*division](line);
            let has = |name: &str| position(&cells, name).is_some();
            let has_step = *division != BY_SPACES && STEPS.iter().any(|name| has(name));
            is_header(*division) && (has_step || metrics.iter().any(|name| has(name)))
        });
        match (new, known) {
            (Some(BY_SPACES), Some(known)) if known.division != BY_SPACES => Some(known),
            (Some(division), _) => Some(Self {
                header: line.to_owned(),
                division,
            }),
            (None, Some(known)) => {
                let cells = DIVISIONS[known.division](line).len();
                let replaced = is_header(known.division)
                    && cells == DIVISIONS[known.division](&known.header).len();
                (!replaced).then_some(known)
            }
            (None, None) => None,
        }
    }

    /// The cells of a row below this header.
    pub(crate) fn row<'a>(&'a self, line: &'a str) -> Option<Row<'a>> {
        let line = without_bar(line);
        [self.division, BY_SPACES].into_iter().find_map(|division| {
            let header = DIVISIONS[division](&self.header);
            let cells = DIVISIONS[division](line);
            let numbers = cells.iter().filter(|cell| cell_number(cell).is_some());
            let numbers = numbers.count();
            let is_row = header.len() == cells.len()
                && cells.len() > 1
                && if self.division == BY_SPACES {
                    numbers == cells.len()
                } else {
                    numbers > 0
                };
            is_row.then_some(Row { header, cells })
        })
    }
}

/// A row of a table with its header.
pub(crate) struct Row<'a> {
    header: Vec<&'a str>,
    cells: Vec<&'a str>,
}

impl Row<'_> {
    /// The number in the column of a name.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        cell_number(self.cells[position(&self.header, name)?])
    }

    /// The number in the column of steps or epochs; of `3/10` the first.
    pub(crate) fn step(&self) -> Option<i64> {
        let column = STEPS.iter().find_map(|name| position(&self.header, name))?;
        let cell = self.cells[column].trim();
        cell.split('/').next()?.trim().parse().ok()
    }
}

/// The column of a name; names compare exactly if one is exactly the same.
fn position(header: &[&str], name: &str) -> Option<usize> {
    // `Box(P`, `mAP50-95)`: a bracket around several columns.
    let clean = |cell: &str| {
        let cell = cell.trim().trim_matches(['*', '"', '\'']);
        cell.trim_start_matches('(')
            .trim_end_matches([')', ':'])
            .to_owned()
    };
    let cells: Vec<String> = header.iter().map(|cell| clean(cell)).collect();
    cells.iter().position(|cell| cell == name).or_else(|| {
        cells
            .iter()
            .position(|cell| cell.eq_ignore_ascii_case(name))
    })
}

fn cell_number(cell: &str) -> Option<f64> {
    let cell = cell.trim();
    let cell = cell.strip_suffix('%').unwrap_or(cell);
    if cell.eq_ignore_ascii_case("none") {
        return Some(f64::NAN);
    }
    cell.replace(',', "").parse().ok()
}

/// The line up to its progress bar.
fn without_bar(line: &str) -> &str {
    static BAR: LazyLock<Regex> = LazyLock::new(|| regex(r":?\s+\d+%\s*[|│]"));
    let end = BAR.find(line).map_or(line.len(), |bar| bar.start());
    line[..end].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_read_by_its_name() {
        for (line, name, expected) in [
            ("loss: 0.9", "loss", 0.9),
            ("loss=0.9", "loss", 0.9),
            ("loss 0.9", "loss", 0.9),
            ("loss = -1e-3", "loss", -1e-3),
            ("'eval_loss': 0.9,", "eval_loss", 0.9),
            ("\"loss\" : 0.9", "loss", 0.9),
            ("Loss: 0.9", "loss", 0.9),
            ("LOSS 0.9, loss 0.8", "loss", 0.8),
            ("loss: 1,234.5", "loss", 1234.5),
            ("loss: 1,234,567 (mean)", "loss", 1_234_567.0),
            ("loss: 1,2,3", "loss", 1.0),
            ("loss: 123,456,7", "loss", 123.0),
            ("loss: 1_000.5", "loss", 1000.5),
            ("loss: .5", "loss", 0.5),
            ("loss is 0.9", "loss", 0.9),
            ("a loss of 0.9", "loss", 0.9),
            ("loss (mse): 0.9", "loss", 0.9),
            ("loss -> 0.9", "loss", 0.9),
            ("loss - 0.9", "loss", 0.9),
            ("loss: -0.9", "loss", -0.9),
            ("loss.......: 0.9", "loss", 0.9),
            ("loss: tensor(0.9, device='cuda:0')", "loss", 0.9),
            ("{'loss': np.float64(0.9)}", "loss", 0.9),
            ("|    loss            | 0.9        |", "loss", 0.9),
            ("│        test_acc         │    0.98    │", "test_acc", 0.98),
            ("loss inf", "loss", f64::INFINITY),
            (
                "25/25 - 1s - 20ms/step - accuracy: 0.5 - loss: 0.9",
                "loss",
                0.9,
            ),
            (
                "Epoch 3: 100%|###| 25/25 [00:01<00:00, 20.33it/s, v_num=0, train_loss=0.9]",
                "train_loss",
                0.9,
            ),
            ("Train Epoch: 1 [0/60000 (0%)]\tLoss: 0.9", "loss", 0.9),
            (
                "Test set: Average loss: 0.9, Accuracy: 9836/10000 (98%)",
                "Average loss",
                0.9,
            ),
            (
                "Test set: Average loss: 0.9, Accuracy: 9836/10000 (98%)",
                "loss",
                0.9,
            ),
            ("Accuracy: 50.3%, Avg loss: 2.15", "accuracy", 50.3),
            (
                "Epoch: [0][  10/5005]\tLoss 6.9e+00 (7.0e+00)\tAcc@1   0.25 (  0.13)",
                "loss",
                6.9,
            ),
            (
                "Epoch: [0][  10/5005]\tLoss 6.9e+00 (7.0e+00)\tAcc@1   0.25 (  0.13)",
                "Acc@1",
                0.25,
            ),
            (
                "| end of epoch   1 | time: 50.0s | valid loss  5.44 | valid ppl   230.99",
                "valid loss",
                5.44,
            ),
            ("step 250: train loss 2.1, val loss 2.2", "val loss", 2.2),
            ("best loss 0.4, loss 0.5", "loss", 0.5),
            ("[10]\ttrain-rmse:0.1\tvalid-rmse:0.2", "valid-rmse", 0.2),
            ("[0]\tvalidation_0-logloss:0.6", "validation_0-logloss", 0.6),
            ("[1]\tvalid_0's l2: 0.243", "l2", 0.243),
            (
                "0:\tlearn: 0.6931\ttest: 0.69\tbest: 0.69 (0)",
                "test",
                0.69,
            ),
            ("INFO:root:loss=0.9", "loss", 0.9),
            ("loss: 1/10, then loss: 0.9", "loss", 0.9),
        ] {
            assert_eq!(find(line, name), Some(expected), "{line:?} {name}");
        }
        for line in ["loss: nan", "loss=NaN", "'loss': None", "loss: null"] {
            assert!(find(line, "loss").unwrap().is_nan(), "{line}");
        }
    }

    #[test]
    fn other_names_and_counters_are_not_the_metric() {
        for line in [
            "val_loss: 0.9",
            "train/loss: 0.9",
            "val-loss: 0.9",
            "val.loss: 0.9",
            "loss_scale: 0.9",
            "losses: 0.9",
            "loss/train: 0.9",
            "loss: 25/25",
            "loss: 45%|####5     | 45/100",
            "loss: 00:05",
            "loss: 2.15G",
            "loss improved from 0.9 to 0.8",
            "loss",
            "loss: mse",
            "",
        ] {
            assert_eq!(find(line, "loss"), None, "{line:?}");
        }
        assert_eq!(find("loss 1", ""), None);
    }

    #[test]
    fn a_metric_is_a_column_of_a_table() {
        for (header, row, name, value, step) in [
            (
                "epoch     train_loss  valid_loss  accuracy  time    ",
                "0         0.9         0.8         0.7       00:05   ",
                "valid_loss",
                0.8,
                Some(0),
            ),
            (
                "Epoch\tTraining Loss\tValidation Loss",
                "1\tNo log\t0.8",
                "Validation Loss",
                0.8,
                Some(1),
            ),
            ("step,loss,acc", "100,0.5,0.25", "acc", 0.25, Some(100)),
            ("| epoch | loss |", "| 3 | 0.5 |", "loss", 0.5, Some(3)),
            (
                "      Epoch    GPU_mem   box_loss   cls_loss   dfl_loss  Instances       Size",
                "        1/3      2.15G      1.156        2.9       1.21         32        640: 100%|██████████| 8/8 [00:01<00:00,  5.2it/s]",
                "box_loss",
                1.156,
                Some(1),
            ),
            (
                "                 Class     Images  Instances      Box(P          R      mAP50  mAP50-95): 100%|██████████| 4/4 [00:01<00:00,  3.21it/s]",
                "                   all        128        929      0.645      0.541       0.61       0.45",
                "mAP50-95",
                0.45,
                None,
            ),
        ] {
            let metrics = [name.to_owned()];
            assert_eq!(find(header, name), None, "{header}");
            let columns = Columns::after(None, header, &metrics).expect(header);
            let row = columns.row(row).expect(row);
            assert_eq!((row.get(name), row.step()), (Some(value), step), "{header}");
        }
    }

    #[test]
    fn a_sentence_is_no_table_and_another_header_ends_one() {
        let loss = ["loss".to_owned()];
        assert_eq!(Columns::after(None, "the model of today", &loss), None);
        let sentence = Columns::after(None, "saving best loss model", &loss);
        assert!(
            sentence
                .clone()
                .unwrap()
                .row("an epoch 12.5 seconds")
                .is_none()
        );
        let header = Columns::after(sentence, "epoch  loss  acc", &loss);
        let same = Columns::after(header.clone(), "the loss is low", &loss);
        assert_eq!(same, header);
        assert!(header.clone().unwrap().row("saving the model").is_none());
        assert_eq!(Columns::after(header, "class  images  R", &loss), None);
        let plain = Columns::after(None, "epoch loss acc", &loss).unwrap();
        assert_eq!(plain.row("1 0.5 0.25").unwrap().get("loss"), Some(0.5));
    }
}
