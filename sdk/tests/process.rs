//! Programs leave neither orphans nor zombies.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use patchbay_sdk::process::{Ending, Programs, Signal};

fn words(line: &[&str]) -> Vec<OsString> {
    line.iter().map(OsString::from).collect()
}

/// Processes of a group, zombies too.
fn group(id: u32) -> HashSet<u32> {
    let mut members = HashSet::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        if fields[2] == id.to_string() {
            members.insert(pid);
        }
    }
    members
}

/// Longest wait for what a busy machine does late.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until nothing of the group is left.
async fn gone(id: u32) {
    let end = Instant::now() + PATIENCE;
    while !group(id).is_empty() {
        assert!(Instant::now() < end, "{:?} is left of group {id}", group(id));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn what_it_writes_and_how_it_ends() {
    run(async {
        let programs = Programs::new().unwrap();
        let line = words(&["sh", "-c", "echo out; echo err >&2; exit 3"]);
        let mut program = programs.start(&line, Ending::default()).await.unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        std::fs::File::from(program.take_stdout().unwrap()).read_to_string(&mut out).unwrap();
        std::fs::File::from(program.take_stderr().unwrap()).read_to_string(&mut err).unwrap();
        assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
        assert_eq!(program.ended().await.unwrap().code(), Some(3));
        assert!(program.ended().await.is_none());
        let missing = programs.start(&words(&["/nonexistent/program"]), Ending::default()).await;
        assert_eq!(missing.err().unwrap().kind(), std::io::ErrorKind::NotFound);
    });
}

#[test]
fn a_thousand_starts_and_stops_leave_nothing() {
    run(async {
        let programs = Programs::new().unwrap();
        let mut ids = Vec::new();
        for n in 0..1000 {
            // What it started itself must go too.
            let line = if n % 10 == 0 {
                words(&["sh", "-c", "sleep 1000 & sleep 1000"])
            } else {
                words(&["sleep", "1000"])
            };
            let mut program = programs.start(&line, Ending::default()).await.unwrap();
            ids.push(program.id());
            if n % 2 == 0 {
                program.stop();
                assert_eq!(program.ended().await.unwrap().signal(), Some(9));
            }
        }
        for id in ids.into_iter().rev().take(50) {
            gone(id).await;
        }
        let end = Instant::now() + PATIENCE;
        while !children().is_empty() {
            assert!(Instant::now() < end, "{:?} are left", children());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

/// Children of this process that nobody has reaped or ended. Other tests of this binary run programs as well: what they have not yet
/// reaped is seen for a moment.
fn children() -> Vec<String> {
    let own = std::process::id();
    std::fs::read_dir(format!("/proc/{own}/task"))
        .unwrap()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.is_empty() || line.starts_with(b"sleep\x001000")
        })
        .collect()
}

#[test]
fn one_that_is_killed_from_outside_is_reaped_with_its_group() {
    run(async {
        let programs = Programs::new().unwrap();
        let line = words(&["sh", "-c", "sleep 2000 & wait"]);
        let mut program = programs.start(&line, Ending::default()).await.unwrap();
        let pid = rustix::process::Pid::from_raw(program.id().cast_signed()).unwrap();
        while group(program.id()).len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
        assert_eq!(program.ended().await.unwrap().signal(), Some(9));
        gone(program.id()).await;
    });
}

#[test]
fn one_that_ignores_its_signal_is_killed() {
    run(async {
        let programs = Programs::new().unwrap();
        let ending = Ending { signal: Signal::TERM, kill_after: Duration::from_millis(300) };
        let line = words(&["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 3000; done"]);
        let mut program = programs.start(&line, ending).await.unwrap();
        let mut ready = [0; 6];
        std::fs::File::from(program.take_stdout().unwrap()).read_exact(&mut ready).unwrap();
        let since = Instant::now();
        program.stop();
        program.stop();
        assert_eq!(program.ended().await.unwrap().signal(), Some(9));
        assert!(since.elapsed() >= Duration::from_millis(300), "it had its time");
        gone(program.id()).await;
        // One that obeys ends by the signal it was sent.
        let ending = Ending { signal: Signal::TERM, kill_after: PATIENCE };
        let mut obedient = programs.start(&words(&["sleep", "3000"]), ending).await.unwrap();
        obedient.stop();
        assert_eq!(obedient.ended().await.unwrap().signal(), Some(15));
    });
}

#[test]
fn the_last_handle_ends_all() {
    let ids: Vec<u32> = run(async {
        let programs = Programs::new().unwrap();
        let ending = Ending { signal: Signal::TERM, kill_after: Duration::from_secs(3600) };
        let mut kept = Vec::new();
        for _ in 0..5 {
            kept.push(
                programs.start(&words(&["sh", "-c", "trap '' TERM; sleep 4000"]), ending).await.unwrap(),
            );
        }
        kept.iter().map(patchbay_sdk::process::Program::id).collect()
    });
    run(async {
        for id in ids {
            gone(id).await;
        }
    });
}
