//! How fast logs are reduced: `cargo bench -p tribunal-evidence --bench log`.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::{fmt::Write, time::Instant};

use tribunal_evidence::log::Reducer;

/// Bytes of each log.
const BYTES: usize = 100_000_000;

/// Bytes pushed at once.
const BLOCK: usize = 64 * 1024;

fn main() {
    measure("progress bars", |n, log| {
        let (epoch, step) = (n / 500, n % 500);
        let _ = write!(
            log,
            "Epoch {epoch}: {}%|{:<20}| {step}/500 [00:{:02}<00:{:02}, {}.{}it/s, loss=0.{n}]\r",
            step / 5,
            "█".repeat(step / 25),
            step % 60,
            59 - step % 60,
            step % 9,
            step % 10
        );
        if step == 499 {
            let _ = writeln!(log, "\nval_loss=0.{}", n * 7919 % 100_000);
        }
    });
    measure("timestamped, one line", |n, log| {
        let (minute, second) = (n / 60 % 60, n % 60);
        let _ = writeln!(
            log,
            "2026-01-02 03:{minute:02}:{second:02},{:03} INFO worker 0x7f{n:010x} heartbeat in 0.{n}s",
            n % 1000
        );
    });
    measure("all lines differ, errors among them", |n, log| {
        let _ = match n % 50 {
            0 => writeln!(log, "ValueError: cannot use row {n} of the table, it failed"),
            _ => writeln!(log, "[{n}] loss={} accuracy={} lr=1e-4", n * 31 % 9973, n * 17 % 9967),
        };
    });
    measure("one line without an end", |n, log| {
        let _ = write!(log, "value {n} ");
    });
}

/// Makes a log line by line, reduces it and prints the rate.
fn measure(name: &str, mut line: impl FnMut(usize, &mut String)) {
    let mut log = String::with_capacity(BYTES + 1024);
    for n in 0.. {
        line(n, &mut log);
        if log.len() >= BYTES {
            break;
        }
    }
    let begin = Instant::now();
    let mut reducer = Reducer::default();
    let mut rest = log.as_str();
    while !rest.is_empty() {
        let mut end = rest.len().min(BLOCK);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        reducer.push(&rest[..end]);
        rest = &rest[end..];
    }
    let reduced = reducer.finish();
    let seconds = begin.elapsed().as_secs_f64();
    let megabytes = log.len() as f64 / 1e6;
    println!(
        "{name}: {megabytes:.0} MB in {seconds:.2} s, {:.0} MB/s, {} bytes left",
        megabytes / seconds,
        reduced.len()
    );
}
