//! How much memory this process could still take.

use std::fs;

/// Bytes that are free on this machine and within the process's control group, whichever is less;
/// `None` where the system does not say.
pub(crate) fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine
        .and_then(|text| field(&text, "MemAvailable:"))
        .map(|kib| kib << 10);
    match (machine, in_group()) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (machine, group) => machine.or(group),
    }
}

/// What the control group (version 2, as containers see it) leaves; file pages do not count as taken.
fn in_group() -> Option<u64> {
    let read = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
    // `max` is no number: there is no limit.
    let limit: u64 = read("memory.max")?.trim().parse().ok()?;
    let current: u64 = read("memory.current")?.trim().parse().ok()?;
    let files = read("memory.stat").and_then(|text| field(&text, "inactive_file"));
    Some(limit.saturating_sub(current.saturating_sub(files.unwrap_or(0))))
}

/// The first number of the line that begins with `name`.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read() {
        let text = "MemTotal:       24 kB\nMemAvailable:   7 kB\n";
        assert_eq!(field(text, "MemAvailable:"), Some(7));
        assert_eq!(field("inactive_file 12\n", "inactive_file"), Some(12));
        assert_eq!(field(text, "nothing"), None);
    }
}
