//! The one way out of a sandbox's network: a listener that is made inside and served outside.
//!
//! A socket belongs to the network that it was made in, whoever holds it. So the helper makes one inside, hands it to
//! the driver over the control socket, and nothing has to be forwarded: there is no route, no proxy inside, no
//! interface but `lo`.

use super::spec::{self, Report};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::Interest;
use tokio::net::unix::OwnedReadHalf;

/// Listens at `127.0.0.1:port`, in the network that this process is in.
pub(super) fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

/// `ip link set lo up`, by a message to the kernel: it needs no program, and nothing unsafe.
pub(super) fn loopback_up() -> io::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    const NEWLINK: u16 = 16;
    const REQUEST_AND_ANSWER: u16 = 1 | 4;
    const ERROR: u16 = 2;
    const UP: u32 = 1;
    const LENGTH: u32 = 32;
    let mut message = Vec::new();
    // The header: length, kind, flags, number, sender.
    message.extend(LENGTH.to_ne_bytes());
    message.extend(NEWLINK.to_ne_bytes());
    message.extend(REQUEST_AND_ANSWER.to_ne_bytes());
    message.extend([0; 8]);
    // The link: any family and type, number 1 (which is `lo` in each network), its flags, which of them to change.
    message.extend([0; 4]);
    message.extend(1i32.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    message.extend(UP.to_ne_bytes());

    let kernel = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let mut kernel = std::fs::File::from(kernel);
    kernel.write_all(&message)?;
    let mut answer = [0u8; 256];
    let length = kernel.read(&mut answer)?;
    let answer = answer.get(..length).unwrap_or_default();
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let code = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(ERROR), Some(0)) => Ok(()),
        (Some(ERROR), Some(code)) => Err(io::Error::from_raw_os_error(-code)),
        _ => Err(io::Error::other("the kernel's answer was not understood")),
    }
}

/// Hands a listener to whoever is at the other end of the control socket.
pub(super) fn send(control: &impl AsFd, listener: &TcpListener) -> io::Result<()> {
    let frame = spec::frame(&Report::Listening)?;
    let handed = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = SendAncillaryBuffer::new(&mut space);
    with.push(SendAncillaryMessage::ScmRights(&handed));
    let sent = rustix::net::sendmsg(control, &[IoSlice::new(&frame)], &mut with, SendFlags::empty())?;
    if sent == frame.len() { Ok(()) } else { Err(io::Error::other("the driver does not listen")) }
}

/// Reads what the helper reports, with the descriptors that come along.
pub(super) async fn receive(from: &OwnedReadHalf, into: &mut [u8], handed: &mut Vec<OwnedFd>) -> io::Result<usize> {
    loop {
        from.readable().await?;
        let socket = from.as_ref();
        let got = socket.try_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut with = RecvAncillaryBuffer::new(&mut space);
            let got = rustix::net::recvmsg(
                socket,
                &mut [IoSliceMut::new(into)],
                &mut with,
                RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
            )?;
            for message in with.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    handed.extend(descriptors);
                }
            }
            Ok(got.bytes)
        });
        match got {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            other => return other,
        }
    }
}
