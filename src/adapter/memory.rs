//! What a program that runs for months does not keep.

#![expect(unsafe_code, reason = "neither the allocator's options nor madvise have a safe wrapper; audited here only")]

use rustix::mm::{Advice, madvise};
use std::fs::read_to_string;
use std::ptr::with_exposed_provenance_mut;

/// The allocator's option for how long freed pages are kept, in milliseconds: `mi_option_purge_delay` of mimalloc 3.
const PURGE_DELAY: i32 = 15;
/// How long they are: long enough for the next request, not until the next one that happens to free something.
const KEPT_MS: i64 = 10;

/// Gives pages that are free back to the system soon. Whoever runs the program may say otherwise:
/// `MIMALLOC_PURGE_DELAY`.
pub fn give_back_soon() {
    // SAFETY: sets a number, which the allocator reads with each page that it frees; its default, so that what the
    // environment says holds.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, KEPT_MS) };
}

/// Lets go of what is mapped of the program's own files and was only needed to start. The system maps sixteen pages for
/// each that is touched; those that are touched again come again.
pub fn let_go_of_files() {
    for (start, end) in read_to_string("/proc/self/smaps").map(|maps| read_again(&maps)).unwrap_or_default() {
        // SAFETY: the pages are a file's, read-only, and none of them is a copy of our own: whoever reads one after this
        // finds the same bytes.
        let _ = unsafe { madvise(with_exposed_provenance_mut(start), end - start, Advice::LinuxDontNeed) };
    }
}

/// Where there are pages that can be read again from their file: mapped for reading or running only, and none of them
/// written by us (as those are that the loader relocates).
fn read_again(maps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut now = None;
    for line in maps.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            [range, rights, _, _, _, file, ..] if range.contains('-') => {
                let place = range.split_once('-').and_then(|(start, end)| {
                    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
                });
                now = place.filter(|_| matches!(*rights, "r--p" | "r-xp") && file.starts_with('/'));
            }
            [range, ..] if range.contains('-') => now = None,
            ["Anonymous:", "0", "kB"] => found.extend(now.take()),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
7f00-7f10 r-xp 00001000 fe:00 77 /usr/bin/it
Rss:      64 kB
Anonymous:             0 kB
7f10-7f20 r--p 00011000 fe:00 77 /usr/bin/it
Anonymous:             4 kB
7f20-7f30 rw-p 00021000 fe:00 77 /usr/bin/it
Anonymous:             0 kB
7f30-7f40 r--p 00000000 00:00 0 
Anonymous:             0 kB
7f40-7f50 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
7f50-7f60 r--s 00000000 fe:00 78 /var/lib/it.db-shm
Anonymous:             0 kB
7f60-7f70 r--p 00000000 fe:00 79 /usr/lib/a library.so
Anonymous:             0 kB
";

    #[test]
    fn only_what_stands_in_a_file_as_it_is_mapped_is_let_go_of() {
        assert_eq!(read_again(MAPS), [(0x7f00, 0x7f10), (0x7f60, 0x7f70)]);
    }

    #[test]
    fn a_program_that_let_go_of_its_files_goes_on() {
        let_go_of_files();
        assert!(!read_again(&read_to_string("/proc/self/smaps").unwrap()).is_empty());
        assert_eq!(format!("{:>4}", 7), "   7");
    }
}
