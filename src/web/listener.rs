//! Connections to the page: with TLS or without, so many at a time, none of them for ever.

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
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
    _room: OwnedSemaphorePermit,
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
    while let Ok(room) = Arc::clone(&rooms).acquire_owned().await {
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
