//! Two network namespaces and a wire between them: each has a TUN device, and what goes into one comes out of the other
//! half a round trip later.
//!
//! Unlike a relay, the wire is under the kernels: a connect crosses it, a segment that it loses is sent again, and
//! nobody ends TCP on the way. Packets are held by the system's own timer, the last stretch is spun.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// One end.
pub(crate) struct End {
    namespace: String,
    pub(crate) address: String,
}

/// The wire; its namespaces go with it.
pub(crate) struct Wire {
    pub(crate) near: End,
    pub(crate) far: End,
    settings: Arc<Settings>,
}

struct Settings {
    one_way_ns: AtomicU64,
    lost_per_mille: AtomicU64,
    packets: AtomicU64,
}

impl End {
    /// This program, run in this namespace.
    pub(crate) fn command(&self, program: &Command) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Does this work on a thread that lives in this namespace. What the work starts lives there too.
    pub(crate) fn visit<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.namespace)).unwrap();
        let network = Some(rustix::thread::LinkNameSpaceType::Network);
        std::thread::scope(|scope| {
            let visit = scope.spawn(move || {
                rustix::thread::move_into_link_name_space(namespace.as_fd(), network).unwrap();
                work()
            });
            visit.join().unwrap()
        })
    }
}

impl Wire {
    /// A wire of this length. Needs root, `ip` and /dev/net/tun; without them it panics, for nothing here is skipped.
    pub(crate) fn new(round_trip: Duration) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let end = |side: &str, host: u32| End {
            namespace: format!("probe-{}-{number}-{side}", std::process::id()),
            address: format!("10.83.{number}.{host}"),
        };
        let settings = Arc::new(Settings {
            one_way_ns: AtomicU64::new(0),
            lost_per_mille: AtomicU64::new(0),
            packets: AtomicU64::new(0),
        });
        let wire = Self { near: end("near", 1), far: end("far", 2), settings };
        wire.set_round_trip(round_trip);
        let tun = |end: &End, other: &End, side: &str| {
            let device = format!("pw{}{number}{side}", std::process::id() % 100_000);
            let file = open_tun(&device);
            ip(&["netns", "add", &end.namespace]);
            // The file keeps its device wherever that goes.
            ip(&["link", "set", &device, "netns", &end.namespace]);
            let inside = |arguments: &[&str]| {
                let mut all = vec!["-n", &end.namespace];
                all.extend(arguments);
                ip(&all);
            };
            inside(&["address", "add", &end.address, "peer", &other.address, "dev", &device]);
            inside(&["link", "set", &device, "up"]);
            inside(&["link", "set", "lo", "up"]);
            file
        };
        let (near, far) = (tun(&wire.near, &wire.far, "n"), tun(&wire.far, &wire.near, "f"));
        for (from, to) in [(&near, &far), (&far, &near)] {
            carry(from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(&wire.settings));
        }
        wire
    }

    /// Holds what comes from now on for half of this.
    pub(crate) fn set_round_trip(&self, round_trip: Duration) {
        let one_way = u64::try_from(round_trip.as_nanos()).unwrap() / 2;
        self.settings.one_way_ns.store(one_way, Ordering::Relaxed);
    }

    /// Loses so many packets of a thousand, in each direction.
    pub(crate) fn lose(&self, per_mille: u64) {
        self.settings.lost_per_mille.store(per_mille, Ordering::Relaxed);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for end in [&self.near, &self.far] {
            // The devices go with their namespaces, and the threads with the devices.
            let _ = Command::new("ip").args(["netns", "delete", &end.namespace]).status();
        }
    }
}

/// Takes packets from one end and gives them to the other when their time has come.
fn carry(mut from: File, mut to: File, settings: Arc<Settings>) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        let mut packet = vec![0; 65_536];
        // Until the device is gone.
        while let Ok(length) = from.read(&mut packet) {
            let due = now() + Duration::from_nanos(settings.one_way_ns.load(Ordering::Relaxed));
            let number = settings.packets.fetch_add(1, Ordering::Relaxed);
            if dice(number) < settings.lost_per_mille.load(Ordering::Relaxed) {
                continue;
            }
            if length == 0 || sender.send((due, packet[..length].to_vec())).is_err() {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, packet) in receiver {
            wait_until(due);
            if to.write_all(&packet).is_err() {
                return;
            }
        }
    });
}

/// A number below 1000 that looks random and is the same in each run.
fn dice(count: u64) -> u64 {
    let mut x = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (x ^ (x >> 27)) % 1000
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("the lab needs `ip` (iproute2)");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {error}(the lab needs root)", arguments.join(" "));
}

/// A TUN device of this name: raw IP packets, without a header of its own.
#[expect(unsafe_code, reason = "a TUN device can be had by an ioctl only")]
fn open_tun(name: &str) -> File {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    let file = file.unwrap_or_else(|error| panic!("the lab needs root and /dev/net/tun: {error}"));
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    let flags = u16::try_from(libc::IFF_TUN | libc::IFF_NO_PI).unwrap();
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: the file is open, and the request is a whole `struct ifreq` (40 bytes) that outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, request.as_mut_ptr()) };
    assert_eq!(result, 0, "TUNSETIFF {name}: {}", std::io::Error::last_os_error());
    file
}

/// The system's timer is late by up to a tenth of a millisecond, so the last stretch is spun.
#[expect(clippy::disallowed_methods, reason = "this is the wire: real time is its job")]
fn wait_until(instant: Instant) {
    const STRETCH: Duration = Duration::from_micros(300);
    loop {
        let left = instant.saturating_duration_since(now());
        if left.is_zero() {
            return;
        }
        match left.checked_sub(STRETCH) {
            Some(most) if !most.is_zero() => std::thread::sleep(most),
            _ => std::hint::spin_loop(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the wire: real time is its job")]
fn now() -> Instant {
    Instant::now()
}
