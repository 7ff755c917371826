//! What a run reports; the binary counts its memory.

use std::time::Duration;

use kiln_fuzz::{CountingAllocator, FaultKind, Run, Verdict};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const SEEDS: [&[u8]; 2] = [b"one 1", b"two 22"];

#[test]
fn a_panic_is_reported_with_its_place_and_the_case_repeats_it() {
    let check = |input: &Vec<u8>| {
        assert!(!input.contains(&0xff), "it has a byte of 255");
        Verdict::Accepted
    };
    let run = Run::new("panics").seed(3).cases(2000);
    let report = run.check(|mutator| mutator.mutate_any(&SEEDS), check);
    assert!(report.n_faults > 3, "{report}");
    assert_eq!(
        report.faults.len(),
        3,
        "of one place the first three are kept"
    );
    let fault = &report.faults[0];
    let FaultKind::Panic { place, message } = &fault.kind else {
        panic!("{report}");
    };
    assert!(place.contains("tests/run.rs") && message == "it has a byte of 255");
    let again = run
        .only(fault.case)
        .check(|mutator| mutator.mutate_any(&SEEDS), check);
    assert_eq!((again.n_faults, &again.faults[0].input), (1, &fault.input));
}

#[test]
fn slow_and_greedy_cases_and_what_the_check_finds_wrong_are_faults() {
    let report = Run::new("faults")
        .cases(3)
        .slow(Duration::from_millis(20))
        .bytes(1 << 20)
        .check(|_| b"", {
            let mut n = 0;
            move |_| {
                n += 1;
                match n {
                    // A slow case is tried three times.
                    1..=3 => std::thread::sleep(Duration::from_millis(30)),
                    4 => drop(std::hint::black_box(vec![1_u8; 2 << 20])),
                    _ => return Verdict::Wrong("as the test wants it".to_owned()),
                }
                Verdict::Refused
            }
        });
    let kinds: Vec<_> = report.faults.iter().map(|fault| &fault.kind).collect();
    assert!(
        matches!(kinds[..], [FaultKind::Slow(_), FaultKind::Memory(bytes), FaultKind::Wrong(_)] if *bytes >= 2 << 20),
        "{report}"
    );
    assert_eq!((report.refused, report.n_faults), (2, 3));
}

#[test]
fn a_slow_case_that_is_fast_the_next_time_is_no_fault() {
    let mut n = 0;
    let report = Run::new("once slow")
        .cases(1)
        .slow(Duration::from_millis(20))
        .check(
            |_| b"",
            |_| {
                n += 1;
                std::thread::sleep(Duration::from_millis(if n == 1 { 60 } else { 0 }));
                Verdict::Accepted
            },
        );
    report.assert_clean();
}
