//! The floor of fan-out over TCP: a bare loop of `write(2)` that sends the same buffer to every connection, as many times a
//! second as a stream has pictures. `floor COUNT BYTES RATE SECONDS` listens, prints `READY port`, waits for COUNT clients,
//! sends, and prints the CPU time it took: `cpu_us TOTAL writes N`.
#![allow(clippy::print_stdout)] // its output is for the driver

use std::error::Error;
use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut numbers = std::env::args().skip(1).map(|word| word.parse::<u64>());
    let mut number =
        || numbers.next().ok_or("usage: floor COUNT BYTES RATE SECONDS")?.map_err(Box::<dyn Error>::from);
    let (count, bytes, rate, seconds) = (number()?, number()?, number()?, number()?);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("READY {}", listener.local_addr()?.port());
    let mut clients: Vec<TcpStream> = Vec::new();
    while (clients.len() as u64) < count {
        let (client, _) = listener.accept()?;
        client.set_nodelay(true)?;
        client.set_nonblocking(true)?;
        clients.push(client);
    }
    let buffer = vec![0x55_u8; usize::try_from(bytes)?];
    let (start, before, mut writes, mut short) = (Instant::now(), cpu(), 0_u64, 0_u64);
    for turn in 0..rate * seconds {
        let due = start + Duration::from_nanos(1_000_000_000 / rate * turn);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        for client in &mut clients {
            match client.write(&buffer) {
                Ok(n) if n == buffer.len() => {}
                Ok(_) => short += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => short += 1,
                Err(error) => return Err(error.into()),
            }
            writes += 1;
        }
    }
    let spent = cpu() - before;
    println!("cpu_us {} writes {writes} short {short}", spent.as_micros());
    Ok(())
}
