//! Connections to the page: with TLS or without, so many at a time, none of them for ever.

use crate::control::network;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// Connections at a time: a browser opens six. Each takes a file of the station, which has about a thousand.
pub const CONNECTIONS: usize = 200;

/// Connections at a time from one other computer, which cannot take them all.
pub const FROM_ONE: usize = 100;

/// The handshake is done by then.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A connection over which nothing comes and nothing goes for so long is ended: longer than a request may take.
const SILENCE: Duration = Duration::from_secs(75);

/// Before the next connection is taken if there was no room for one.
const AGAIN: Duration = Duration::from_millis(200);

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that is closed when it is silent, and makes room for the next one then.
pub struct Connection {
    stream: Box<dyn Stream>,
    silent: Pin<Box<Sleep>>,
    _room: Room,
}

/// How many connections each computer has.
type Taken = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// A connection's place among all, and among those of its computer.
struct Room {
    _permit: OwnedSemaphorePermit,
    from: IpAddr,
    taken: Taken,
}

impl Room {
    /// `None`: this computer has enough.
    fn take(permit: OwnedSemaphorePermit, from: IpAddr, taken: &Taken) -> Option<Room> {
        // What comes from here may be a proxy's, for others.
        let limited = !from.to_canonical().is_loopback();
        let from = network(from);
        let mut all = taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.entry(from).or_default();
        if *own >= FROM_ONE && limited {
            return None;
        }
        *own += 1;
        Some(Room {
            _permit: permit,
            from,
            taken: taken.clone(),
        })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = all.get_mut(&self.from) {
            *own -= 1;
        }
        all.retain(|_, own| *own > 0);
    }
}

impl Connection {
    /// Something went over it; or it is silent, perhaps for too long.
    fn watched<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.silent.as_mut().reset(Instant::now() + SILENCE);
            return poll;
        }
        ready!(self.silent.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.watched(cx, poll)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watched(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watched(cx, poll)
    }
}

/// Hands out connections as they are ready: who is slow at the handshake keeps nobody waiting.
pub struct Limited {
    address: SocketAddr,
    ready: Receiver<(Connection, SocketAddr)>,
}

impl Limited {
    /// Listens at an address.
    ///
    /// # Errors
    /// It cannot be had.
    pub async fn listen(address: SocketAddr, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (sender, ready) = channel(1);
        tokio::spawn(accept(listener, tls, sender));
        Ok(Limited { address, ready })
    }
}

/// Takes connections until nobody asks for them any more.
async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    ready: Sender<(Connection, SocketAddr)>,
) {
    let rooms = Arc::new(Semaphore::new(CONNECTIONS));
    let taken = Taken::default();
    while let Ok(permit) = Arc::clone(&rooms).acquire_owned().await {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ready.closed() => return,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                log::debug!("{e}");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        let Some(room) = Room::take(permit, from.ip(), &taken) else {
            log::debug!("{from}: it has {FROM_ONE} connections");
            continue;
        };
        let (tls, ready) = (tls.clone(), ready.clone());
        tokio::spawn(async move {
            match shaken(stream, tls).await {
                Ok(stream) => {
                    let silent = Box::pin(sleep(SILENCE));
                    let connection = Connection {
                        stream,
                        silent,
                        _room: room,
                    };
                    // Fails when the page has ended.
                    let _ = ready.send((connection, from)).await;
                }
                Err(e) => log::debug!("{from}: {e}"),
            }
        });
    }
}

async fn shaken(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<Box<dyn Stream>> {
    stream.set_nodelay(true)?;
    Ok(match tls {
        None => Box::new(stream),
        Some(tls) => Box::new(timeout(HANDSHAKE, tls.accept(stream)).await??),
    })
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // Its task has ended, which it only does after this.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Connected<IncomingStream<'_, Limited>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Limited>) -> Self {
        Peer(*stream.remote_addr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_computer_leaves_room_for_others() {
        let rooms = Arc::new(Semaphore::new(CONNECTIONS));
        let taken = Taken::default();
        let take = |from: &str| {
            let permit = Arc::clone(&rooms).try_acquire_owned().unwrap();
            Room::take(permit, from.parse().unwrap(), &taken)
        };
        let of_one: Vec<Room> = (0..FROM_ONE).map(|_| take("10.0.0.1").unwrap()).collect();
        assert!(take("10.0.0.1").is_none() && take("::ffff:10.0.0.1").is_none());
        assert!(take("10.0.0.2").is_some());
        drop(of_one);
        assert_eq!(rooms.available_permits(), CONNECTIONS);
        assert!(take("10.0.0.1").is_some());
        for here in ["127.0.0.1", "::1"] {
            let all: Vec<Room> = (0..CONNECTIONS).map(|_| take(here).unwrap()).collect();
            assert_eq!((rooms.available_permits(), all.len()), (0, CONNECTIONS));
        }
        assert!(taken.lock().unwrap().is_empty());
    }
}
