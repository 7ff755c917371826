//! Downloads from a server on this machine that behaves as badly as servers do.
#![cfg(feature = "download")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kiln_data::fetch::{Failure, FetchError, Fetcher, FileSpec};

/// How the server answers a request for one path.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Good,
    /// Another content of the same length.
    Wrong,
    /// Announces everything, sends half and closes. Understands ranges.
    Half,
    /// The same, but only the first time.
    HalfOnce,
    /// The same, and ranges are ignored afterwards.
    HalfOnceWithoutRanges,
    /// Announces no length and never stops.
    Endless,
    /// Announces a length that is wrong.
    TooLong,
    Status(u16),
    /// Busy twice, then good.
    BusyTwice,
    Slow,
}

struct Server {
    address: String,
    hits: Arc<AtomicUsize>,
    ranges: Arc<Mutex<Vec<String>>>,
}

fn content() -> Vec<u8> {
    (0..200_000u32)
        .map(|i| (i.wrapping_mul(i) / 7) as u8)
        .collect()
}

fn serve(manner: Manner) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let hits = Arc::new(AtomicUsize::new(0));
    let ranges = Arc::new(Mutex::new(Vec::new()));
    let server = Server {
        address,
        hits: Arc::clone(&hits),
        ranges: Arc::clone(&ranges),
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let hit = hits.fetch_add(1, Ordering::SeqCst);
            let ranges = Arc::clone(&ranges);
            // A client that hangs up early is part of the test.
            std::thread::spawn(move || {
                let _ = answer(stream, manner, hit, &ranges);
            });
        }
    });
    server
}

fn answer(
    mut stream: TcpStream,
    manner: Manner,
    hit: usize,
    ranges: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let (mut from, mut head) = (0, false);
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while let Some(line) = lines.next().transpose()? {
        if line.is_empty() {
            break;
        }
        head |= line.starts_with("HEAD ");
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            ranges.lock().unwrap().push(range.to_owned());
            from = range.trim_end_matches('-').parse().unwrap();
        }
    }
    let mut body = content();
    let length = body.len();
    let mut send = |status: &str, length: Option<usize>, extra: &str, body: &[u8]| {
        let length = length.map_or(String::new(), |n| format!("Content-Length: {n}\r\n"));
        write!(
            stream,
            "HTTP/1.1 {status}\r\n{length}{extra}Connection: close\r\n\r\n"
        )?;
        stream.write_all(body)?;
        stream.flush()
    };
    if head && !matches!(manner, Manner::Status(_)) {
        return send(
            "200 OK",
            (manner != Manner::Endless).then_some(length),
            "",
            b"",
        );
    }
    let first = hit == 0;
    match manner {
        Manner::Wrong => {
            body[77] ^= 1;
            send("200 OK", Some(length), "", &body)
        }
        Manner::Status(status) => send(&format!("{status} No"), Some(2), "", b"no"),
        Manner::BusyTwice if hit < 2 => send("503 Busy", Some(4), "", b"busy"),
        Manner::TooLong => send("200 OK", Some(length + 5), "", &body),
        Manner::Endless => {
            send("200 OK", None, "", &body)?;
            loop {
                stream.write_all(&body)?;
            }
        }
        Manner::HalfOnce | Manner::HalfOnceWithoutRanges if first => {
            send("200 OK", Some(length), "", &body[..length / 2])
        }
        Manner::Half | Manner::HalfOnce if from > 0 => {
            let extra = format!("Content-Range: bytes {from}-{}/{length}\r\n", length - 1);
            let end = if manner == Manner::Half {
                (from + length) / 2
            } else {
                length
            };
            send("206 Partial", Some(length - from), &extra, &body[from..end])
        }
        Manner::Half => send("200 OK", Some(length), "", &body[..length / 2]),
        Manner::Slow => {
            send("200 OK", Some(length), "", &body[..1000])?;
            std::thread::sleep(Duration::from_millis(300));
            stream.write_all(&body[1000..])
        }
        _ => send("200 OK", Some(length), "", &body),
    }
}

/// An address that nobody listens at.
fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn spec(addresses: &[&str]) -> FileSpec {
    FileSpec {
        name: "data.bin".into(),
        urls: addresses.iter().map(|a| format!("{a}/data.bin")).collect(),
        size: 200_000,
        // Made with Python: sha256(bytes((i * i % 2**32 // 7) % 256 for i in range(200000))).
        sha256: "067b8767b07ff31777f03c2fcff4389c37f10061e10ff131b1c4ccaafa718bcc".into(),
    }
}

fn fetcher() -> Fetcher {
    Fetcher::new().pause(Duration::from_millis(5))
}

/// Everything in the folder but the lock.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != ".lock")
        .collect();
    names.sort();
    names
}

fn failures(result: Result<(), FetchError>) -> Vec<Failure> {
    match result.unwrap_err() {
        FetchError::AllFailed { failures, .. } => {
            failures.into_iter().map(|(_, failure)| failure).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_file_arrives_whole_and_is_not_fetched_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(Manner::Good);
    let target = dir.path().join("new/folder");
    let spec = spec(&[&server.address]);
    fetcher().fetch(&spec, &target).unwrap();
    fetcher().fetch(&spec, &target).unwrap();
    assert_eq!(fs::read(target.join("data.bin")).unwrap(), content());
    assert_eq!(names(&target), ["data.bin"]);
    assert_eq!(server.hits.load(Ordering::SeqCst), 1);
}

#[test]
fn a_damaged_file_of_that_name_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(Manner::Good);
    let mut damaged = content();
    damaged[5] ^= 1;
    fs::write(dir.path().join("data.bin"), damaged).unwrap();
    fetcher()
        .fetch(&spec(&[&server.address]), dir.path())
        .unwrap();
    assert_eq!(fs::read(dir.path().join("data.bin")).unwrap(), content());
}

#[test]
fn wrong_content_is_refused_and_the_next_mirror_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (wrong, good) = (serve(Manner::Wrong), serve(Manner::Good));
    let found = failures(fetcher().fetch(&spec(&[&wrong.address]), dir.path()));
    assert!(
        matches!(found[..], [Failure::WrongChecksum { .. }]),
        "{found:?}"
    );
    assert_eq!(names(dir.path()), [""; 0]);
    assert_eq!(
        wrong.hits.load(Ordering::SeqCst),
        1,
        "wrong content stays wrong"
    );
    fetcher()
        .fetch(&spec(&[&wrong.address, &good.address]), dir.path())
        .unwrap();
    assert_eq!(fs::read(dir.path().join("data.bin")).unwrap(), content());
}

#[test]
fn an_error_status_and_a_refused_connection_lead_to_the_next_mirror() {
    let dir = tempfile::tempdir().unwrap();
    let (missing, good) = (serve(Manner::Status(404)), serve(Manner::Good));
    let spec = spec(&[&missing.address, &closed(), &good.address]);
    fetcher().fetch(&spec, dir.path()).unwrap();
    assert_eq!(missing.hits.load(Ordering::SeqCst), 1);
    assert_eq!(names(dir.path()), ["data.bin"]);
}

#[test]
fn a_busy_server_is_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(Manner::BusyTwice);
    fetcher()
        .fetch(&spec(&[&server.address]), dir.path())
        .unwrap();
    assert_eq!(server.hits.load(Ordering::SeqCst), 3);
}

#[test]
fn a_broken_transfer_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(Manner::HalfOnce);
    fetcher()
        .fetch(&spec(&[&server.address]), dir.path())
        .unwrap();
    assert_eq!(*server.ranges.lock().unwrap(), ["100000-"]);
    assert_eq!(fs::read(dir.path().join("data.bin")).unwrap(), content());
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(Manner::HalfOnceWithoutRanges);
    fetcher()
        .fetch(&spec(&[&server.address]), dir.path())
        .unwrap();
    assert_eq!(fs::read(dir.path().join("data.bin")).unwrap(), content());
}

#[test]
fn a_transfer_that_always_breaks_gives_up_and_a_later_run_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(Manner::Half);
    let found = failures(
        fetcher()
            .rounds(2)
            .fetch(&spec(&[&server.address]), dir.path()),
    );
    assert!(
        matches!(
            found[..],
            [Failure::BrokenOff {
                received: 150_000,
                expected: 200_000,
                ..
            }]
        ),
        "{found:?}"
    );
    assert_eq!(names(dir.path()), ["data.bin.part"]);
    let good = serve(Manner::HalfOnce);
    good.hits.store(1, Ordering::SeqCst);
    fetcher()
        .fetch(&spec(&[&good.address]), dir.path())
        .unwrap();
    assert_eq!(*good.ranges.lock().unwrap(), ["150000-"]);
    assert_eq!(names(dir.path()), ["data.bin"]);
}

#[test]
fn a_stale_part_of_another_file_does_not_spoil_the_download() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(Manner::HalfOnce);
    server.hits.store(1, Ordering::SeqCst);
    for stale in [vec![9; 1000], vec![9; 200_000], vec![9; 300_000]] {
        fs::write(dir.path().join("data.bin.part"), stale).unwrap();
        let _ = fs::remove_file(dir.path().join("data.bin"));
        fetcher()
            .fetch(&spec(&[&server.address]), dir.path())
            .unwrap();
        assert_eq!(fs::read(dir.path().join("data.bin")).unwrap(), content());
        assert_eq!(names(dir.path()), ["data.bin"]);
    }
}

#[test]
fn files_of_the_wrong_size_are_not_swallowed() {
    let dir = tempfile::tempdir().unwrap();
    for manner in [Manner::Endless, Manner::TooLong] {
        let server = serve(manner);
        let found = failures(fetcher().fetch(&spec(&[&server.address]), dir.path()));
        assert!(
            matches!(found[..], [Failure::WrongSize { .. }]),
            "{found:?}"
        );
        assert_eq!(names(dir.path()), [""; 0]);
    }
}

#[test]
fn without_a_network_it_fails_fast_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let spec = spec(&[&closed(), &closed()]);
    let error = Fetcher::new().fetch(&spec, dir.path()).unwrap_err();
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    assert!(error.is_offline(), "{error:?}");
    let message = error.to_string();
    let by_hand = format!(
        "by hand: fetch {} into {}",
        spec.urls[0],
        dir.path().display()
    );
    assert!(message.contains(&by_hand), "{message}");
}

#[test]
fn many_at_once_transfer_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(Manner::Slow);
    let spec = spec(&[&server.address]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| fetcher().fetch(&spec, dir.path()).unwrap());
        }
    });
    assert_eq!(server.hits.load(Ordering::SeqCst), 1);
    assert_eq!(fs::read(dir.path().join("data.bin")).unwrap(), content());
    assert_eq!(names(dir.path()), ["data.bin"]);
}

/// Each process is a further run of this very test.
#[test]
fn processes_at_once_do_no_harm() {
    const ADDRESS: &str = "KILN_FETCH_TEST_ADDRESS";
    const FOLDER: &str = "KILN_FETCH_TEST_FOLDER";
    if let (Ok(address), Some(folder)) = (std::env::var(ADDRESS), std::env::var_os(FOLDER)) {
        fetcher()
            .fetch(&spec(&[&address]), Path::new(&folder))
            .unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = serve(Manner::Slow);
    let start = || {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes_at_once_do_no_harm"])
            .env(ADDRESS, &server.address)
            .env(FOLDER, dir.path())
            .spawn()
            .unwrap()
    };
    let children = [start(), start(), start()];
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(server.hits.load(Ordering::SeqCst), 1);
    assert_eq!(fs::read(dir.path().join("data.bin")).unwrap(), content());
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a file");
    fs::write(&file, b"x").unwrap();
    let error = fetcher().fetch(&spec(&[&closed()]), &file).unwrap_err();
    assert!(matches!(error, FetchError::Io { .. }), "{error:?}");
    assert!(error.to_string().contains("a file"), "{error}");
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["", "../x", "a/b", "a\\b", ".lock"] {
        let spec = FileSpec {
            name: name.into(),
            ..spec(&[&closed()])
        };
        let error = fetcher().fetch(&spec, dir.path()).unwrap_err();
        assert!(
            matches!(error, FetchError::BadName { .. }),
            "{name}: {error:?}"
        );
    }
}

/// What is known of a file whose publisher gives no size and the first digits of its check sum.
fn vague(addresses: &[&str]) -> FileSpec {
    FileSpec {
        size: FileSpec::UNKNOWN_SIZE,
        sha256: "067b8767".into(),
        ..spec(addresses)
    }
}

#[test]
fn a_file_of_unknown_size_is_known_by_the_beginning_of_its_check_sum() {
    let dir = tempfile::tempdir().unwrap();
    let (wrong, good) = (serve(Manner::Wrong), serve(Manner::Good));
    let file = vague(&[&wrong.address, &good.address]);
    fetcher().fetch(&file, dir.path()).unwrap();
    assert_eq!(fs::read(dir.path().join("data.bin")).unwrap(), content());
    let hits = good.hits.load(Ordering::SeqCst);
    fetcher().fetch(&file, dir.path()).unwrap();
    assert_eq!(
        good.hits.load(Ordering::SeqCst),
        hits,
        "it was there already"
    );

    let only_wrong = vague(&[&wrong.address]);
    fs::remove_file(dir.path().join("data.bin")).unwrap();
    let failures = failures(fetcher().fetch(&only_wrong, dir.path()));
    assert!(
        matches!(failures[..], [Failure::WrongChecksum { .. }]),
        "{failures:?}"
    );
    assert!(!dir.path().join("data.bin").exists());
}

#[test]
fn a_broken_transfer_of_unknown_size_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(Manner::Half);
    assert!(
        fetcher()
            .fetch(&vague(&[&server.address]), dir.path())
            .is_err()
    );
    let good = serve(Manner::HalfOnce);
    fetcher()
        .fetch(&vague(&[&good.address]), dir.path())
        .unwrap();
    assert_eq!(fs::read(dir.path().join("data.bin")).unwrap(), content());
    assert!(!good.ranges.lock().unwrap().is_empty(), "it began anew");
}

#[test]
fn a_server_that_names_no_size_is_not_trusted_with_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    for (manner, what) in [(Manner::Endless, "no size"), (Manner::Status(404), "404")] {
        let server = serve(manner);
        let failures = failures(fetcher().fetch(&vague(&[&server.address]), dir.path()));
        assert!(failures[0].to_string().contains(what), "{failures:?}");
    }
}

#[test]
fn too_short_a_check_sum_matches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(Manner::Good);
    for sha256 in ["", "067b876"] {
        let file = FileSpec {
            sha256: sha256.into(),
            ..spec(&[&server.address])
        };
        assert!(fetcher().fetch(&file, dir.path()).is_err(), "{sha256:?}");
    }
}
