//! A confusion matrix in a file: all of its rows, or of very many classes those counts that are not 0.

use kiln_zoo::{bytes_text, machine_memory};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Classes of the largest matrix that is written whole. The counts of more are written one by one, since their squared
/// number is a file beyond reading.
const MAX_WHOLE: usize = 1000;

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Rows(Vec<Vec<usize>>),
    Counts {
        /// How many there are; the matrix is square.
        classes: usize,
        /// The true class, the one that was predicted, and how often.
        counts: Vec<[usize; 3]>,
    },
}

pub(crate) fn serialize<S: Serializer>(
    rows: &[Vec<usize>],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Counts {
        classes: usize,
        counts: Vec<[usize; 3]>,
    }
    if rows.len() <= MAX_WHOLE {
        return rows.serialize(serializer);
    }
    let each = rows.iter().enumerate().flat_map(|(truth, row)| {
        let counts = row.iter().enumerate().filter(|(_, count)| **count > 0);
        counts.map(move |(answer, &count)| [truth, answer, count])
    });
    let counts = each.collect();
    let classes = rows.len();
    Counts { classes, counts }.serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Vec<usize>>, D::Error> {
    let (classes, counts) = match Written::deserialize(deserializer)? {
        Written::Rows(rows) => return Ok(rows),
        Written::Counts { classes, counts } => (classes, counts),
    };
    // Rows that hold nothing take no memory before they are read, but a number in a file must not ask for more than there is.
    let bytes = (classes as u64)
        .saturating_mul(classes as u64)
        .saturating_mul(size_of::<usize>() as u64);
    if classes > kiln_data::MAX_CLASSES || machine_memory().is_some_and(|most| bytes > most) {
        return Err(D::Error::custom(format!(
            "a confusion matrix of {classes} classes takes {}, more than there is",
            bytes_text(bytes)
        )));
    }
    let mut rows: Vec<Vec<usize>> = (0..classes).map(|_| vec![0; classes]).collect();
    for [truth, answer, count] in counts {
        let cell = rows.get_mut(truth).and_then(|row| row.get_mut(answer));
        *cell.ok_or_else(|| {
            D::Error::custom(format!(
                "the confusion matrix counts class {truth} as {answer}, but there are {classes} classes"
            ))
        })? = count;
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use crate::run::files::{read_json, write_json};
    use crate::{Evaluation, EvaluationRecord};

    fn evaluation(classes: usize) -> Evaluation {
        let mut rows = vec![vec![0; classes]; classes];
        for (truth, row) in rows.iter_mut().enumerate() {
            row[truth] = 3;
            row[(truth * 7 + 1) % classes] += 1;
        }
        let names: Vec<String> = (0..classes).map(|class| format!("c{class}")).collect();
        Evaluation::from_confusion(rows, 0.5, &names)
    }

    #[test]
    fn the_evaluation_of_thousands_of_classes_is_a_small_file_that_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("evaluation.json");
        let seen = evaluation(3000);
        write_json(&file, &seen).unwrap();
        assert!(file.metadata().unwrap().len() < 2 << 20);
        assert_eq!(Evaluation::read(&file).unwrap(), seen);
        // Beside other entries, too.
        let record = EvaluationRecord {
            data: "others".into(),
            origin: "there".into(),
            evaluated: "2026-11-25T22:00:00Z".into(),
            evaluation: seen,
        };
        write_json(&file, &record).unwrap();
        assert_eq!(read_json::<EvaluationRecord>(&file).unwrap(), record);
    }

    #[test]
    fn matrices_are_written_whole_up_to_a_thousand_classes_and_read_whole_whatever_their_size() {
        let few = serde_json::to_value(evaluation(1000)).unwrap();
        assert_eq!(few["confusion"].as_array().unwrap().len(), 1000);
        let many = evaluation(1001);
        let mut value = serde_json::to_value(&many).unwrap();
        assert_eq!(value["confusion"]["classes"], 1001);
        // As an earlier version wrote it.
        value["confusion"] = serde_json::to_value(&many.confusion).unwrap();
        let read: Evaluation = serde_json::from_value(value).unwrap();
        assert_eq!(read, many);
    }

    #[test]
    fn a_matrix_that_says_too_much_of_itself_is_refused() {
        let mut value = serde_json::to_value(evaluation(1001)).unwrap();
        for (classes, counts, expected) in [
            (1_usize << 40, "[]", "more than there is"),
            (1001, "[[1001, 0, 1]]", "counts class 1001 as 0"),
            (
                1001,
                "[[0, 18446744073709551615, 1]]",
                "but there are 1001 classes",
            ),
        ] {
            value["confusion"]["classes"] = classes.into();
            value["confusion"]["counts"] = serde_json::from_str(counts).unwrap();
            let error = serde_json::from_value::<Evaluation>(value.clone()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
