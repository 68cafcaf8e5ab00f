//! Gives the pages of the program that only the start needed back to the page
//! cache: more than half of what an idle agent has resident is code that ran
//! once. What is needed again comes back by itself, without a read from disk as
//! long as the cache has it.

use std::{fs, ops::Range, time::Duration};

/// After which the start has ended, with all that it set off.
const SETTLED: Duration = Duration::from_secs(2);

pub(super) async fn give_back_after_start() {
    tokio::time::sleep(SETTLED).await;
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
    for range in code(&maps) {
        // SAFETY: a private mapping of a file that may be executed and not
        // written holds nothing but what the file holds; what is dropped is
        // mapped from there again.
        unsafe { libc::madvise(range.start as *mut _, range.len(), libc::MADV_DONTNEED) };
    }
}

/// The mappings of files that may be executed and not written.
fn code(maps: &str) -> impl Iterator<Item = Range<usize>> {
    maps.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (range, rights, file) = (words.next()?, words.next()?, words.nth(3)?);
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        (rights == "r-xp" && file.starts_with('/')).then_some(address(start)?..address(end)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_files_is_given_back() {
        let maps = "\
55d0c3a00000-55d0c3b00000 r--p 00000000 fd:00 1311 /usr/bin/mesh-agent
55d0c3b00000-55d0c3b03000 r-xp 00100000 fd:00 1311 /usr/bin/mesh-agent
55d0c4000000-55d0c4001000 rw-p 00500000 fd:00 1311 /usr/bin/mesh-agent
7f0000000000-7f0000001000 rwxp 00000000 00:00 0
7f0000001000-7f0000002000 r-xp 00000000 00:00 0
7f0000002000-7f0000004000 r-xp 00000000 fd:00 77 /usr/lib/libc.so.6 (deleted)
7fff00000000-7fff00001000 r-xp 00000000 00:00 0 [vdso]
";
        let found: Vec<_> = code(maps).map(|range| range.len()).collect();
        assert_eq!(found, [0x3000, 0x2000]);
    }

    /// Of all code, in KiB.
    fn resident() -> u64 {
        let text = fs::read_to_string("/proc/self/smaps").unwrap();
        let (mut is_code, mut sum) = (false, 0);
        for line in text.lines() {
            match line.strip_prefix("Rss:") {
                Some(size) if is_code => {
                    sum += size.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
                }
                Some(_) => {}
                // The other lines of a mapping begin with a name and a colon.
                None if line.split(' ').next().is_some_and(|word| !word.ends_with(':')) => {
                    is_code = code(line).next().is_some();
                }
                None => {}
            }
        }
        sum
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_goes_on_with_little_of_its_code_resident() {
        let before = resident();
        give_back_after_start().await;
        let after = resident();
        // Other tests run beside this one, and need theirs.
        assert!(after < before, "{after} of {before} KiB");
    }
}
