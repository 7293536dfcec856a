//! How often passwords are tried or set. A hash takes milliseconds: whoever tries many must not take the processor from the
//! inspection, nor the turn of everybody else.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// One source's tries are at least this far apart.
pub(super) const EACH: Duration = Duration::from_secs(1);
/// Those of all sources together: hashes take some percent of a slow processor then.
const ALL: Duration = Duration::from_millis(100);

/// Who tried a password lately. At most [`EACH`] / [`ALL`] sources are remembered, and the ports.
#[derive(Debug, Default)]
pub(super) struct Pace {
    tries: VecDeque<(Option<IpAddr>, Instant)>,
}

impl Pace {
    /// Whether this source may try a password now; if so, it has. `None`: the ports, where somebody stands at the station.
    pub(super) fn may(&mut self, from: Option<IpAddr>, now: Instant) -> bool {
        let since = |then: Instant| now.saturating_duration_since(then);
        while self
            .tries
            .front()
            .is_some_and(|(_, then)| since(*then) >= EACH)
        {
            self.tries.pop_front();
        }
        let from = from.map(network);
        let mut others = self.tries.iter().filter(|(source, _)| source.is_some());
        // Whoever stands at the station waits for nobody.
        let soon = from.is_some() && others.any(|(_, then)| since(*then) < ALL);
        if soon || self.tries.iter().any(|(source, _)| *source == from) {
            return false;
        }
        self.tries.push_back((from, now));
        true
    }
}

/// What one computer can change about its own address is left out: the last 64 bits of IPv6 (RFC 4291, 2.5.1).
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_its_turn_once_a_second_whatever_others_do() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let (one, other): (IpAddr, IpAddr) =
            ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mut taken = [0; 3];
        // Ten seconds in which one tries every millisecond, another every half a second, and somebody at the port.
        for ms in 0..10_000 {
            let now = start + Duration::from_millis(ms);
            taken[0] += u32::from(pace.may(Some(one), now));
            if ms % 500 == 250 {
                taken[1] += u32::from(pace.may(Some(other), now));
                taken[2] += u32::from(pace.may(None, now));
            }
            assert!(pace.tries.len() <= 11);
        }
        assert_eq!(taken[0], 10, "{taken:?}");
        assert!(taken[1] >= 9 && taken[2] == 10, "{taken:?}");
    }

    #[test]
    fn many_addresses_of_one_computer_are_one_source_and_many_computers_share_a_limit() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let of = |n: u16, m: u16| Some(IpAddr::from([0xfd00, n, 0, 0, 0, 0, 0, m]));
        assert!(pace.may(of(1, 1), start));
        assert!(!pace.may(of(1, 2), start + ALL));
        assert!(pace.may(of(2, 1), start + ALL));
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert!(pace.may(Some(mapped), start + 2 * ALL));
        let plain: IpAddr = "10.0.0.1".parse().unwrap();
        assert!(!pace.may(Some(plain), start + 3 * ALL));
        let tries = (0..1000u16).filter(|n| {
            let at = start + EACH * 2 + Duration::from_millis(u64::from(*n));
            pace.may(of(100 + n, 1), at)
        });
        assert_eq!(tries.count(), 10);
    }
}
