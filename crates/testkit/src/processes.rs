//! Which processes work in a folder.

use std::fs;
use std::path::Path;

/// Ids of the processes whose command line names `folder`, but for this one.
pub fn processes_of(folder: &Path) -> Vec<u32> {
    let needle = folder.as_os_str().as_encoded_bytes();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|&pid| pid != std::process::id())
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.windows(needle.len().max(1)).any(|window| window == needle))
        })
        .collect()
}
