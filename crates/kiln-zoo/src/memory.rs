//! What fits into the memory of this machine.

use std::sync::OnceLock;

/// Bytes of memory that a program on this machine can have at most: RAM and swap space, or the limit of its container.
/// Known on Linux; none elsewhere.
///
/// ```
/// assert!(kiln_zoo::machine_memory().is_none_or(|bytes| bytes > 1 << 20));
/// ```
pub fn machine_memory() -> Option<u64> {
    static MEMORY: OnceLock<Option<u64>> = OnceLock::new();
    *MEMORY.get_or_init(|| {
        let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
        let limits = [
            "/sys/fs/cgroup/memory.max",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        ];
        let limits = limits.iter().filter_map(|file| {
            // A container without a limit has the word `max` there, or a huge number.
            std::fs::read_to_string(file).ok()?.trim().parse().ok()
        });
        limits.chain([of_machine(&meminfo)?]).min()
    })
}

/// RAM and swap space in the words of `/proc/meminfo`.
fn of_machine(meminfo: &str) -> Option<u64> {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes.saturating_mul(1024))
    };
    let swap = field("SwapTotal:").unwrap_or(0);
    Some(field("MemTotal:")?.saturating_add(swap))
}

/// A number of bytes for people: `14.0 TiB`.
pub fn bytes_text(bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = (bytes.max(1).ilog2() / 10) as usize;
    match unit {
        0 => format!("{bytes} bytes"),
        _ => format!(
            "{:.1} {}",
            bytes as f64 / 2f64.powi(10 * unit as i32),
            units[unit]
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_ram_and_swap_space() {
        let meminfo = "MemTotal:       24689764 kB\nMemFree:  1 kB\nSwapTotal:       1024 kB\n";
        assert_eq!(of_machine(meminfo), Some((24_689_764 + 1024) * 1024));
        assert_eq!(of_machine("MemTotal: 10 kB\n"), Some(10_240));
        assert_eq!(of_machine("nonsense"), None);
    }

    #[test]
    fn bytes_are_told_in_the_unit_that_people_would_take() {
        assert_eq!(bytes_text(0), "0 bytes");
        assert_eq!(bytes_text(1023), "1023 bytes");
        assert_eq!(bytes_text(1536), "1.5 KiB");
        assert_eq!(bytes_text(3 << 40), "3.0 TiB");
        assert_eq!(bytes_text(u64::MAX), "16.0 EiB");
    }
}
