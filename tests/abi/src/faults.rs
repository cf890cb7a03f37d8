//! What ends or spoils a whole process: `GET /api/fixture?fault=WORD`.
#![allow(unsafe_code)] // the faults are

use std::fs;
use std::hint::black_box;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

static FLOOD: AtomicU8 = AtomicU8::new(0);

/// Whether sources are to push as fast as they can.
pub fn floods_units() -> bool {
    FLOOD.load(Ordering::Relaxed) == 1
}

/// Whether sources are to emit as fast as they can.
pub fn floods_events() -> bool {
    FLOOD.load(Ordering::Relaxed) == 2
}

/// Does what `word` says; other words do nothing.
pub fn cause(word: &str) {
    match word {
        // SAFETY: none, on purpose: this is the fault.
        "segv" => unsafe { black_box(std::ptr::null_mut::<u8>()).write_volatile(1) },
        "abort" => std::process::abort(),
        "exit" => std::process::exit(0),
        "overflow" => {
            black_box(overflow(0));
        }
        "allocate" => {
            let mut kept = Vec::new();
            loop {
                kept.push(vec![1_u8; 8 << 20]);
                black_box(&kept);
            }
        }
        "loop" => {
            // More than the plugin has threads.
            for _ in 0..16 {
                patchbay_sdk::spawn(async {
                    loop {
                        black_box(());
                    }
                });
            }
        }
        "flood-units" => FLOOD.store(1, Ordering::Relaxed),
        "flood-events" => FLOOD.store(2, Ordering::Relaxed),
        "garbage" => {
            for fd in sockets() {
                // SAFETY: a descriptor of this process; that it is the runner's is the fault.
                let fd = unsafe { BorrowedFd::borrow_raw(fd) };
                let _ = rustix::io::write(fd, &[0xa5; 4096]);
            }
        }
        "close" => {
            for fd in sockets() {
                // SAFETY: none, on purpose: the descriptor is the runner's.
                unsafe { rustix::io::close(fd) };
            }
            thread::sleep(Duration::from_secs(60));
        }
        _ => {}
    }
}

fn overflow(depth: u64) -> u64 {
    let room = black_box([depth; 1024]);
    if black_box(depth) == u64::MAX {
        return 0;
    }
    overflow(depth + 1) + room.iter().sum::<u64>()
}

/// Descriptors of sockets above the standard ones.
fn sockets() -> Vec<i32> {
    let Ok(folder) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let is_socket = |path: &std::path::Path| {
        fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    let paths = folder.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_socket(path));
    paths.filter_map(|path| path.file_name()?.to_str()?.parse().ok()).filter(|fd| *fd > 2).collect()
}
