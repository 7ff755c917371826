//! Replays `multi_objective.json`: ranks, Pareto fronts, crowding, elites, hypervolumes, subset
//! selection, the empirical distribution function and the association step of NSGA-III.

use kiln_tune::analysis::{empirical_distribution, hypervolume_history};
use kiln_tune::multi_objective as mo;
use serde_json::Value;

use super::{array, indices, matrix, number, numbers};
use crate::{Checks, Report};

const TOLERANCE: f64 = 1e-10;
const NICHE_TOLERANCE: f64 = 1e-9;

/// Replays a whole file.
pub fn replay(file: &Value, report: &mut Report) {
    for set in array(&file["sets"]) {
        report.case("(no name)", set, |checks| {
            replay_set(checks, set);
            Ok(())
        });
    }
    if !file["edf"].is_null() {
        let edf = &file["edf"];
        report.case("edf", edf, |checks| {
            replay_edf(checks, edf);
            Ok(())
        });
    }
    for case in file["nsga3"].as_array().into_iter().flatten() {
        let name = format_args!("nsga3 with {} objectives", case["n_objectives"]);
        report.case(name, case, |checks| {
            replay_nsga3(checks, case);
            Ok(())
        });
    }
}

fn replay_set(checks: &mut Checks, set: &Value) {
    let name = set["name"].as_str().unwrap_or("?");
    let at = |what: &str| format!("{name} {what}");
    let maximize: Vec<bool> = array(&set["directions"])
        .iter()
        .map(|d| d == "maximize")
        .collect();
    let values = matrix(&set["values"]);
    let losses = mo::to_losses(&values, &maximize);
    let constraints: Option<Vec<Vec<f64>>> = set["constraints"].as_array().map(|rows| {
        rows.iter()
            .map(|row| {
                if row.is_null() {
                    Vec::new()
                } else {
                    numbers(row)
                }
            })
            .collect()
    });
    let penalty: Option<Vec<f64>> = constraints.as_ref().map(|rows| {
        rows.iter()
            .map(|row| row.iter().filter(|c| **c > 0.0).sum())
            .collect()
    });
    let feasible = |i: usize| {
        constraints
            .as_ref()
            .is_none_or(|rows| rows[i].iter().all(|c| *c <= 0.0))
    };

    let candidates: Vec<usize> = (0..values.len()).filter(|&i| feasible(i)).collect();
    let rows: Vec<Vec<f64>> = candidates.iter().map(|&i| losses[i].clone()).collect();
    let best: Vec<usize> = candidates
        .iter()
        .zip(mo::is_pareto_front(&rows))
        .filter_map(|(&i, front)| front.then_some(i))
        .collect();
    checks.exact(at("best_trials"), &best, &indices(&set["best_trials"]));

    let ranks = mo::non_domination_rank(&losses, penalty.as_deref(), None);
    checks.exact(at("ranks"), &ranks, &indices(&set["ranks"]));
    let half = mo::non_domination_rank(&losses, penalty.as_deref(), Some(values.len() / 2));
    checks.exact(
        at("ranks_n_below_half"),
        &half,
        &indices(&set["ranks_n_below_half"]),
    );

    for (rank, expected) in array(&set["crowding_distance_per_rank"]).iter().enumerate() {
        let members: Vec<usize> = (0..values.len()).filter(|&i| ranks[i] == rank).collect();
        let rows: Vec<Vec<f64>> = members.iter().map(|&i| values[i].clone()).collect();
        for (i, distance) in members.iter().zip(mo::crowding_distance(&rows)) {
            let want = &expected[i.to_string().as_str()];
            let want = if want.is_null() { 0.0 } else { number(want) };
            checks.close(at(&format!("crowding of {i}")), distance, want, TOLERANCE);
        }
    }
    for (key, expected) in set.as_object().into_iter().flatten() {
        let Some(size) = key.strip_prefix("nsga2_elite_") else {
            continue;
        };
        let size = size.parse().expect("the elite size is a number");
        let elite = mo::elite_population(&values, &maximize, penalty.as_deref(), size);
        checks.exact(at(key), &elite, &indices(expected));
    }

    if !set["hypervolume"].is_null() {
        let reference = numbers(&set["reference_point_minimization"]);
        let within: Vec<Vec<f64>> = losses
            .iter()
            .filter(|row| row.iter().all(|v| v.is_finite()))
            .filter(|row| row.iter().zip(&reference).all(|(v, r)| v <= r))
            .cloned()
            .collect();
        let volume = mo::hypervolume(&within, &reference).unwrap_or(f64::NAN);
        checks.close(
            at("hypervolume"),
            volume,
            number(&set["hypervolume"]),
            TOLERANCE,
        );
    }
    if !set["hypervolume_history"].is_null() {
        let trials: Vec<(Vec<f64>, bool)> = values
            .iter()
            .enumerate()
            .map(|(i, row)| (row.clone(), feasible(i)))
            .collect();
        let history =
            hypervolume_history(&trials, &maximize, &numbers(&set["reference_point_user"]));
        checks.all_close(
            at("hypervolume_history"),
            &history,
            &numbers(&set["hypervolume_history"]),
            TOLERANCE,
        );
    }
    if !set["tpe_reference_point"].is_null() {
        checks.all_close(
            at("tpe_reference_point"),
            &mo::reference_point(&losses),
            &numbers(&set["tpe_reference_point"]),
            TOLERANCE,
        );
    }
    if !set["hssp_front_indices"].is_null() {
        let front = indices(&set["hssp_front_indices"]);
        let rows: Vec<Vec<f64>> = front.iter().map(|&i| losses[i].clone()).collect();
        // The reference of the selection comes from the front itself, not from all trials.
        let reference = mo::reference_point(&rows);
        let k = set["hssp_k"].as_u64().expect("hssp_k is a number") as usize;
        let mut chosen: Vec<usize> = mo::select_subset(&rows, k, &reference)
            .into_iter()
            .map(|j| front[j])
            .collect();
        chosen.sort_unstable();
        let mut want = indices(&set["hssp_selected"]);
        want.sort_unstable();
        checks.exact(at("hssp_selected"), &chosen, &want);
    }
}

fn replay_edf(checks: &mut Checks, edf: &Value) {
    let values: Vec<Vec<f64>> = array(&edf["studies"])
        .iter()
        .map(|study| {
            array(&study["trials"])
                .iter()
                .filter(|trial| trial[0] == "COMPLETE")
                .map(|trial| number(&trial[1]))
                .collect()
        })
        .collect();
    let computed = empirical_distribution(&values);
    checks.all_close("edf x", &computed.x, &numbers(&edf["x"]), TOLERANCE);
    for (i, line) in array(&edf["lines"]).iter().enumerate() {
        checks.all_close(
            format!("edf y of study {i}"),
            &computed.y[i],
            &numbers(&line["y"]),
            TOLERANCE,
        );
    }
}

fn replay_nsga3(checks: &mut Checks, case: &Value) {
    let size = |key: &str| case[key].as_u64().expect("a size") as usize;
    let name = format!("nsga3 with {} objectives", size("n_objectives"));
    let points = mo::nsga3::reference_points(size("n_objectives"), size("dividing_parameter"));
    checks.exact(
        format!("{name}: reference points"),
        &points,
        &matrix(&case["reference_points"]),
    );
    let objectives = mo::nsga3::clip_infinities(&matrix(&case["objective_matrix"]));
    let normalized = mo::nsga3::normalize(&objectives);
    for (i, (got, want)) in normalized
        .iter()
        .zip(matrix(&case["normalized"]))
        .enumerate()
    {
        for (j, (g, w)) in got.iter().zip(want).enumerate() {
            // Intercepts near zero blow the values up, so large ones are compared relatively.
            let tolerance = NICHE_TOLERANCE * w.abs().max(1.0);
            checks.close(format!("{name}: normalized[{i}][{j}]"), *g, w, tolerance);
        }
    }
    let nearest = indices(&case["closest_reference_point"]);
    let distance = numbers(&case["distance"]);
    for (i, (point, d)) in mo::nsga3::associate(&normalized, &points)
        .iter()
        .enumerate()
    {
        checks.exact(
            format!("{name}: reference point of {i}"),
            point,
            &nearest[i],
        );
        let tolerance = NICHE_TOLERANCE * distance[i].abs().max(1.0);
        checks.close(
            format!("{name}: distance of {i}"),
            *d,
            distance[i],
            tolerance,
        );
    }
}
