//! The transfer itself.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::part::Part;
use super::{Failure, FetchError, FileSpec, sha256};

/// Fetches files over HTTP(S) into a folder.
///
/// A file appears under its name only when it is complete, verified and flushed to disk. Addresses
/// are tried in turn; passing faults (a broken transfer, a busy server) are tried again with
/// growing pauses, and a broken transfer goes on where it stopped if the server can. Where nothing
/// can be reached it gives up within seconds. Two processes, or threads, that fetch the same file
/// at the same time wait for each other and transfer it once.
///
/// ```no_run
/// use kiln_data::fetch::{Fetcher, FileSpec};
///
/// let labels = FileSpec {
///     name: "t10k-labels-idx1-ubyte.gz".into(),
///     urls: vec!["https://ossci-datasets.s3.amazonaws.com/mnist/t10k-labels-idx1-ubyte.gz".into()],
///     size: 4542,
///     sha256: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6".into(),
/// };
/// Fetcher::new().progress(true).fetch(&labels, "data".as_ref())?;
/// # Ok::<(), kiln_data::fetch::FetchError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Fetcher {
    progress: bool,
    rounds: u32,
    pause: Duration,
}

impl Default for Fetcher {
    fn default() -> Self {
        Self::new()
    }
}

/// How long finding a host, and then connecting to it, may take.
const REACH: Duration = Duration::from_secs(3);
/// How long a server may take to begin its answer.
const ANSWER: Duration = Duration::from_secs(15);
/// The slowest transfer that is waited for, in bytes per second.
const SLOWEST: u64 = 20_000;

impl Fetcher {
    /// Default: no progress bar, three rounds over the addresses, 0.5 s before the second.
    pub fn new() -> Self {
        Self {
            progress: false,
            rounds: 3,
            pause: Duration::from_millis(500),
        }
    }

    /// Shows a progress bar on stderr, or one plain line where stderr is no terminal. Default: no.
    pub fn progress(mut self, progress: bool) -> Self {
        self.progress = progress;
        self
    }

    /// How often the addresses are gone through, at least once. Default: 3.
    pub fn rounds(mut self, rounds: u32) -> Self {
        self.rounds = rounds.max(1);
        self
    }

    /// Pause before the second round; it doubles for each further one. Default: 0.5 s.
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Fetches every file into `dir`, one after the other, and stops at the first that fails.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch); files that came before stay.
    pub fn fetch_all(&self, specs: &[FileSpec], dir: &Path) -> Result<(), FetchError> {
        specs.iter().try_for_each(|spec| self.fetch(spec, dir))
    }

    /// Fetches one file into `dir`, which is created if need be. A file that is there already, with
    /// the right size and check sum, is left alone; any other of that name is replaced.
    ///
    /// # Errors
    /// [`FetchError::AllFailed`] with the reason for each address and the manual step;
    /// [`FetchError::Io`] if the folder cannot be written; [`FetchError::BadName`] and
    /// [`FetchError::NoUrl`] for a specification that cannot work.
    pub fn fetch(&self, spec: &FileSpec, dir: &Path) -> Result<(), FetchError> {
        if spec.name.is_empty() || spec.name.starts_with('.') || spec.name.contains(['/', '\\']) {
            return Err(FetchError::BadName {
                name: spec.name.clone(),
            });
        }
        let target = dir.join(&spec.name);
        if spec.matches(&target).unwrap_or(false) {
            return Ok(());
        }
        if spec.urls.is_empty() {
            return Err(FetchError::NoUrl {
                name: spec.name.clone(),
                manual: spec.manual_step(dir),
            });
        }
        fs::create_dir_all(dir).map_err(|source| FetchError::Io {
            path: dir.to_owned(),
            action: "create",
            source,
        })?;
        let part = Part::new(spec, dir)?;
        // Another process may have fetched it while this one waited for the lock.
        if spec.matches(&target).unwrap_or(false) {
            return Ok(());
        }
        self.try_all(spec, dir, &part)
    }

    fn try_all(&self, spec: &FileSpec, dir: &Path, part: &Part) -> Result<(), FetchError> {
        let mut failures: Vec<(String, Failure)> = Vec::new();
        let mut urls: Vec<&String> = spec.urls.iter().collect();
        let bar = self.bar(spec);
        for round in 0..self.rounds {
            if round > 0 {
                std::thread::sleep(self.pause * 2u32.saturating_pow(round - 1).min(64));
            }
            let mut passing = Vec::new();
            for url in urls {
                match transfer(url, spec, part, &bar)? {
                    Ok(()) => {
                        bar.finish_and_clear();
                        return Ok(());
                    }
                    Err(failure) => {
                        if failure.is_passing() {
                            passing.push(url);
                        }
                        failures.retain(|(known, _)| known != url);
                        failures.push((url.clone(), failure));
                    }
                }
            }
            urls = passing;
            if urls.is_empty() {
                break;
            }
        }
        bar.finish_and_clear();
        Err(FetchError::AllFailed {
            name: spec.name.clone(),
            failures,
            manual: spec.manual_step(dir),
        })
    }

    fn bar(&self, spec: &FileSpec) -> ProgressBar {
        if !self.progress {
            return ProgressBar::hidden();
        }
        if !io::stderr().is_terminal() {
            match spec.size {
                FileSpec::UNKNOWN_SIZE => eprintln!("fetching {}", spec.name),
                size => eprintln!("fetching {} ({size} bytes)", spec.name),
            }
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template(
            "{msg:28} {bar:30} {bytes:>10} of {total_bytes:>10} {bytes_per_sec:>12} {eta:>4}",
        );
        let bar = ProgressBar::with_draw_target(Some(spec.size), ProgressDrawTarget::stderr());
        match style {
            Ok(style) => bar.with_style(style).with_message(spec.name.clone()),
            Err(_) => bar,
        }
    }
}

/// One try at one address: the outer error ends the fetch, the inner one only this try.
fn transfer(
    url: &str,
    spec: &FileSpec,
    part: &Part,
    bar: &ProgressBar,
) -> Result<Result<(), Failure>, FetchError> {
    let sized;
    let spec = match spec.size {
        FileSpec::UNKNOWN_SIZE => match size(url) {
            Ok(size) => {
                bar.set_length(size);
                sized = FileSpec {
                    size,
                    ..spec.clone()
                };
                &sized
            }
            Err(failure) => return Ok(Err(failure)),
        },
        _ => spec,
    };
    // What an earlier try left may be of another file; then a fresh start at once tells.
    let resumed = part.len() > 0;
    let mut result = transfer_once(url, spec, part, bar)?;
    if resumed && matches!(result, Err(Failure::WrongChecksum { .. })) {
        result = transfer_once(url, spec, part, bar)?;
    }
    Ok(result)
}

fn transfer_once(
    url: &str,
    spec: &FileSpec,
    part: &Part,
    bar: &ProgressBar,
) -> Result<Result<(), Failure>, FetchError> {
    if part.len() > spec.size {
        part.discard()?;
    }
    let have = part.len();
    let file = if have < spec.size {
        let (body, start) = match request(url, spec, have) {
            Ok(answer) => answer,
            Err(failure) => return Ok(Err(failure)),
        };
        let mut file = part.open(start)?;
        match copy(body, &mut file, start, spec.size, part, bar)? {
            Ok(()) => file,
            Err(failure) => return Ok(Err(failure)),
        }
    } else {
        part.open(have)?
    };
    let found = sha256(&part.path).map_err(|source| part.error("read", source))?;
    if !spec.is_sha256(&found) {
        part.discard()?;
        return Ok(Err(Failure::WrongChecksum {
            found,
            expected: spec.sha256.clone(),
        }));
    }
    part.finish(&file)?;
    Ok(Ok(()))
}

/// What will be asked of `url`, with time for `size` bytes.
fn agent(url: &str, size: u64) -> ureq::Agent {
    let mut config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(REACH))
        .timeout_connect(Some(REACH))
        .timeout_recv_response(Some(ANSWER))
        .timeout_recv_body(Some(ANSWER + Duration::from_secs(size / SLOWEST)));
    // A proxy from the environment serves the world, not this machine.
    if url.starts_with("http://127.0.0.1") || url.starts_with("http://localhost") {
        config = config.proxy(None);
    }
    ureq::Agent::from(config.build())
}

/// The largest file that a server may offer where no size is known.
const LARGEST: u64 = 8 << 30;

/// The size that the server announces.
fn size(url: &str) -> Result<u64, Failure> {
    let request = agent(url, 0)
        .head(url)
        .header("Accept-Encoding", "identity");
    let response = request.call().map_err(failure)?;
    match response.status().as_u16() {
        200 => {}
        status => return Err(Failure::Status(status)),
    }
    let header = response.headers().get("Content-Length");
    let size = header.and_then(|text| text.to_str().ok()?.trim().parse().ok());
    match size {
        Some(size @ 1..=LARGEST) => Ok(size),
        Some(size) => Err(Failure::Protocol(format!(
            "the server offers {size} bytes, expected 1 to {LARGEST}"
        ))),
        None => Err(Failure::Protocol("the server announces no size".into())),
    }
}

/// Asks for the bytes from `have` on; gives the body and the offset it really begins at.
fn request(url: &str, spec: &FileSpec, have: u64) -> Result<(impl Read, u64), Failure> {
    let agent = agent(url, spec.size);
    let mut request = agent.get(url).header("Accept-Encoding", "identity");
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let response = request.call().map_err(failure)?;
    let header = |name: &str| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some(value.trim().to_owned())
    };
    let start = match response.status().as_u16() {
        200 => 0,
        206 => {
            // "bytes 100-199/200"
            let range = header("Content-Range").unwrap_or_default();
            let begins = range
                .strip_prefix("bytes ")
                .and_then(|range| range.split_once('-'))
                .and_then(|(from, _)| from.parse::<u64>().ok());
            if have == 0 || begins != Some(have) {
                return Err(Failure::Protocol(format!(
                    "asked for the bytes from {have} on, the server sent {range:?}"
                )));
            }
            have
        }
        status => return Err(Failure::Status(status)),
    };
    let length = header("Content-Length").and_then(|text| text.parse::<u64>().ok());
    if let Some(found) = length.and_then(|length| length.checked_add(start))
        && found != spec.size
    {
        return Err(Failure::WrongSize {
            found,
            expected: spec.size,
        });
    }
    Ok((response.into_body().into_reader(), start))
}

/// Copies the body to the file, never more than one byte beyond the expected size.
fn copy(
    body: impl Read,
    file: &mut File,
    start: u64,
    size: u64,
    part: &Part,
    bar: &ProgressBar,
) -> Result<Result<(), Failure>, FetchError> {
    let mut body = body.take(size - start + 1);
    let mut buffer = vec![0; 1 << 16];
    let mut have = start;
    let broken = |received, reason: String| {
        Ok(Err(Failure::BrokenOff {
            received,
            expected: size,
            reason,
        }))
    };
    loop {
        bar.set_position(have);
        match body.read(&mut buffer) {
            Ok(0) if have == size => return Ok(Ok(())),
            Ok(0) => return broken(have, "the server closed the connection".into()),
            Ok(n) if have + n as u64 > size => {
                part.discard()?;
                return Ok(Err(Failure::WrongSize {
                    found: have + n as u64,
                    expected: size,
                }));
            }
            Ok(n) => {
                if let Err(source) = file.write_all(&buffer[..n]) {
                    // A disk that is full gets its room back.
                    part.discard()?;
                    return Err(part.error("write", source));
                }
                have += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return broken(have, error.to_string()),
        }
    }
}

/// Sorts the client's errors into "nobody there" and the rest.
fn failure(error: ureq::Error) -> Failure {
    use ureq::{Error, Timeout};
    let text = error.to_string();
    match error {
        Error::HostNotFound
        | Error::ConnectionFailed
        | Error::ConnectProxyFailed(_)
        | Error::Timeout(Timeout::Resolve | Timeout::Connect) => Failure::Unreachable(text),
        Error::Io(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Failure::NoAnswer(text),
            _ => Failure::Unreachable(text),
        },
        Error::Timeout(_) => Failure::NoAnswer(text),
        _ => Failure::Protocol(text),
    }
}
