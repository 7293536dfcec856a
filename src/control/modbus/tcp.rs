//! Modbus TCP: the requests of the serial line over a network (MODBUS Messaging on TCP/IP Implementation Guide V1.0b).
//!
//! The header of a request (MBAP: transaction, protocol, length, unit) is taken off, and what follows is answered by the
//! same [`Slave`] as a frame of the serial line. The crate `rmodbus` knows that header too, but takes requests for broken
//! that the standard allows: writes of more than 121 registers, and functions with less than four bytes.
//!
//! One thread serves all clients. Must never wait for one of them: sockets never block, a client that does not read its
//! answer is closed, and one that asks too much is answered later.

use super::Slave;
use super::frame::{self, Adu};
use super::rtu::POLL;
use crate::control::host::ControlledStation;
use crate::control::port::{Budget, LINES};
use crate::control::session::IDLE;
use crate::control::shared::Control;
use crate::control::table::{Access, Parameter};
use crate::priority::hold;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Clients at a time: one more takes the place of the one that has been silent for the longest time.
pub const CLIENTS: usize = 8;

/// Bytes of the header without the unit, and of the longest request with it (4.1 of the guide).
const HEADER: usize = 6;
const LONGEST: usize = 260;

/// The header's length counts the unit, a function and at most 252 bytes behind it.
const LENGTHS: std::ops::RangeInclusive<usize> = 2..=254;

/// A request that has begun must be whole, and an answer taken, within this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait before an address that is not available is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// A client.
struct Client {
    stream: TcpStream,
    slave: Slave,
    /// Bytes that were received and not answered yet.
    bytes: heapless::Vec<u8, LONGEST>,
    /// Bytes of answers that were not sent yet.
    out: heapless::Vec<u8, LONGEST>,
    /// The header and unit of a request whose answer comes when its change is in force.
    later: Option<[u8; HEADER + 1]>,
    budget: Budget,
    /// When it last sent a whole request, or was sent the whole answer.
    last: Instant,
    open: bool,
}

impl Client {
    fn new<H: ControlledStation>(
        stream: TcpStream,
        from: SocketAddr,
        now: Instant,
        control: &mut Control<H>,
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Client {
            stream,
            slave: Slave::named(&format!("modbus {}", from.ip()), control),
            bytes: heapless::Vec::new(),
            out: heapless::Vec::new(),
            later: None,
            budget: Budget::new(now, LINES * LONGEST as u32),
            last: now,
            open: true,
        })
    }

    /// The events that the socket is watched for.
    fn wants(&mut self, now: Instant) -> PollFlags {
        match () {
            () if !self.out.is_empty() => PollFlags::OUT,
            // The end of the connection is reported whatever is asked for.
            () if self.later.is_some() || self.budget.wait(now).is_some() => PollFlags::empty(),
            () => PollFlags::IN,
        }
    }

    /// Reads what has come, if the client may ask something now.
    fn read(&mut self, now: Instant) {
        if self.wants(now) != PollFlags::IN || self.bytes.is_full() {
            return;
        }
        let mut bytes = [0; LONGEST];
        let room = LONGEST - self.bytes.len();
        match self.stream.read(&mut bytes[..room]) {
            Ok(0) => self.open = false,
            Ok(count) => {
                self.budget.took(count, 0);
                // There is room.
                let _ = self.bytes.extend_from_slice(&bytes[..count]);
            }
            Err(e) => self.open &= is_late(&e),
        }
    }

    /// Answers the whole requests that have come, one after the other.
    fn answer<H: ControlledStation>(&mut self, now: Instant, control: &mut Control<H>) {
        self.slave.idle(now, control);
        let late = self.slave.late(now, control);
        if let Some(header) = self.later
            && !self.slave.is_waiting()
        {
            self.later = None;
            self.send(&header, late);
        }
        while self.open && self.later.is_none() && self.out.is_empty() {
            if self.budget.wait(now).is_some() {
                return;
            }
            let Some((header, request)) = self.request() else {
                return;
            };
            self.last = now;
            self.budget.took(0, 1);
            let answer = self.slave.answer(&request, now, control);
            if self.slave.is_waiting() {
                self.later = Some(header);
                return;
            }
            self.send(&header, answer);
            self.write(now);
        }
    }

    /// The next whole request: its header with the unit, and the frame that the serial line would have brought.
    fn request(&mut self) -> Option<([u8; HEADER + 1], Adu)> {
        let header = *self.bytes.first_chunk::<{ HEADER + 1 }>()?;
        let [_, _, protocol @ .., high, low, _] = header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if protocol != [0, 0] || !LENGTHS.contains(&length) {
            // Where the next request begins is not known any more.
            log::warn!("{}: not Modbus TCP: {header:02x?}", self.slave.port);
            self.open = false;
            return None;
        }
        let whole = self.bytes.get(HEADER..HEADER + length)?;
        // Whatever unit is asked for: nobody else is at this address.
        let body: heapless::Vec<u8, LONGEST> = [self.slave.address]
            .into_iter()
            .chain(whole[1..].iter().copied())
            .collect();
        // As long as a frame of the serial line may be.
        let request = frame::sealed(&body)?;
        self.bytes = self.bytes[HEADER + length..].iter().copied().collect();
        Some((header, request))
    }

    /// Puts an answer behind the header of its request. Without an answer nothing is sent.
    fn send(&mut self, header: &[u8; HEADER + 1], answer: Option<Adu>) {
        let Some(body) = answer
            .as_deref()
            .and_then(|a| a.get(1..a.len().checked_sub(2)?))
        else {
            log::warn!("{}: not a request: closed", self.slave.port);
            self.open = false;
            return;
        };
        let [a, b, ..] = *header;
        // At most 254.
        let [high, low] = (body.len() as u16 + 1).to_be_bytes();
        let head = [a, b, 0, 0, high, low, header[HEADER]];
        self.out = head.into_iter().chain(body.iter().copied()).collect();
        self.budget.answered(self.out.len());
    }

    /// Sends as many bytes as the client takes.
    fn write(&mut self, now: Instant) {
        if self.out.is_empty() {
            return;
        }
        match self.stream.write(&self.out) {
            Ok(0) => self.open = false,
            Ok(count) => {
                self.out = self.out[count..].iter().copied().collect();
                self.last = now;
            }
            Err(e) => self.open &= is_late(&e),
        }
    }

    /// Closes a client that is silent for too long, or stopped in the middle.
    fn time_out(&mut self, now: Instant) {
        let silent = now.saturating_duration_since(self.last);
        let begun = !self.bytes.is_empty() || !self.out.is_empty();
        let stuck = begun && self.later.is_none() && self.budget.wait(now).is_none();
        if silent >= IDLE || (stuck && silent >= PATIENCE) {
            log::info!("{}: silent: closed", self.slave.port);
            self.open = false;
        }
    }
}

/// Whether the error only means that nothing can be read or sent now.
fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Listens at an address; what it cannot be had for, the first time.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves Modbus TCP at an address for as long as `goes_on`, which is asked some 50 times a second. While the address
/// cannot be had, it is tried again: the station does not depend on it.
pub fn serve<H: ControlledStation>(
    address: SocketAddr,
    control: &Mutex<Control<H>>,
    goes_on: &dyn Fn() -> bool,
) {
    // As in `port::serve`: nothing is half done across a panic. Its thread gives way to others.
    let lock = || hold(control);
    let mut clients: Vec<Client> = Vec::with_capacity(CLIENTS);
    let (mut listener, mut again, mut failed) = (None, Instant::now(), false);
    while goes_on() {
        let now = Instant::now();
        if listener.is_none() && now >= again {
            again = now + AGAIN;
            match listen(address) {
                Ok(opened) => {
                    let level = lock().modbus_access();
                    said(&opened, level);
                    listener = Some(opened);
                }
                Err(e) if !std::mem::replace(&mut failed, true) => {
                    log::error!("{address}: no Modbus TCP: {e}; tried again until there is");
                }
                Err(_) => (),
            }
        }
        wait(listener.as_ref(), &mut clients, now);
        let now = Instant::now();
        if let Some(Ok((stream, from))) = listener.as_ref().map(TcpListener::accept) {
            let mut control = lock();
            if clients.len() >= CLIENTS
                && let Some(place) = (0..clients.len()).min_by_key(|i| clients[*i].last)
            {
                let mut gone = clients.swap_remove(place);
                log::warn!("{}: makes way for {from}", gone.slave.port);
                gone.slave.hang_up(&mut control);
            }
            match Client::new(stream, from, now, &mut control) {
                Ok(client) => clients.push(client),
                Err(e) => log::warn!("{from}: {e}"),
            }
        }
        clients.iter_mut().for_each(|c| c.read(now));
        {
            let mut control = lock();
            control.tick(now);
            clients.iter_mut().for_each(|c| c.answer(now, &mut control));
        }
        clients.iter_mut().for_each(|c| c.write(now));
        clients.iter_mut().for_each(|c| c.time_out(now));
        clients.retain_mut(|client| {
            if !client.open {
                client.slave.hang_up(&mut lock());
            }
            client.open
        });
    }
}

fn said(listener: &TcpListener, level: Access) {
    let Ok(at) = listener.local_addr() else {
        return;
    };
    log::info!("Modbus TCP at {at}");
    if level > Access::View && !at.ip().is_loopback() {
        let (parameter, level) = (Parameter::ModbusAccess.name(), level.name());
        log::warn!("{at}: whoever reaches this address has level {level} ({parameter})");
    }
}

/// Waits until there is something to do, or a while.
fn wait(listener: Option<&TcpListener>, clients: &mut [Client], now: Instant) {
    let wants: Vec<PollFlags> = clients.iter_mut().map(|c| c.wants(now)).collect();
    let sockets = clients.iter().zip(wants);
    // One that is not to be read now would end the waiting at once when it is closed by the other side.
    let sockets = sockets.filter(|(_, wants)| !wants.is_empty());
    let mut sockets: Vec<PollFd<'_>> = sockets
        .map(|(client, wants)| PollFd::new(&client.stream, wants))
        .chain(listener.map(|l| PollFd::new(l, PollFlags::IN)))
        .collect();
    let time = Timespec {
        tv_sec: 0,
        // Less than a second.
        tv_nsec: i64::from(POLL.subsec_nanos()),
    };
    // A signal ends it early: it is only a wait.
    if poll(&mut sockets, Some(&time)).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
}
