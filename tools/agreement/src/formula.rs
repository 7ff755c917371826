//! The formula that gives the networks of the reference files their weights.

use kiln_testing::formula::{input, values};

use crate::json::{Array, field, list, sizes, text};
use crate::{Input, Report, Result};

/// Compares single values exactly, and the sum of all.
pub fn compare(file: &Input<'_>, report: &mut Report) -> Result<()> {
    for case in list(file.json, "cases")? {
        report.case("(no name)", case, |checks| {
            let (name, salt) = (text(case, "name")?, text(case, "salt")?);
            let shape = sizes(&case["shape"])?;
            let ours = match name {
                "input" => input(&shape, name, salt),
                _ => values(name, &shape, salt),
            };
            let index = sizes(&case["index"])?;
            let wanted = Array::of(&case["value_f32"])?.f32s();
            for (i, want) in index.into_iter().zip(wanted) {
                checks.exact(format_args!("value {i}"), &ours.get(i), &Some(&want));
            }
            let sum: f64 = ours.iter().map(|&value| f64::from(value)).sum();
            let want = field(case, "sum_f64_of_f32_values")?;
            // The order of a sum of a million numbers.
            checks.close("sum", sum, want, 1e-9 * want.abs().max(1.0));
            Ok(())
        });
    }
    Ok(())
}
