//! The ioctls that `v4l` 0.14 has no safe call for.
//!
//! It panics on control types it does not know (vivid and Jetson drivers have some) and on names that
//! are no UTF-8, drops `ycbcr_enc`, cannot read integer menus and bit masks, and knows no frames in several pieces
//! of memory (multi-planar). `unsafe` for that reason: each block passes one zeroed structure of
//! linux/videodev2.h to the one ioctl that takes it. And mapped buffers are read, which the driver writes only
//! while they are queued.
#![allow(unsafe_code)]

use memmap2::{MmapOptions, MmapRaw};
use std::ffi::c_void;
use std::{io, mem};
use v4l::Device;
use v4l::device::Handle;
use v4l::v4l_sys::{
    V4L2_CTRL_FLAG_NEXT_CTRL, v4l2_buffer, v4l2_capability, v4l2_ext_control, v4l2_ext_controls,
    v4l2_fmtdesc, v4l2_format, v4l2_plane, v4l2_query_ext_ctrl, v4l2_querymenu,
    v4l2_requestbuffers, v4l2_streamparm,
};
use v4l::v4l2::{ioctl, vidioc};

/// Pieces of memory of a frame, at most (VIDEO_MAX_PLANES is 8; no format that is read has more than three).
pub(super) const PIECES: usize = 3;

/// Which of the two forms of the capture interface a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One plane per frame (V4L2_BUF_TYPE_VIDEO_CAPTURE).
    Single,
    /// Several planes per frame (V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE).
    Multi,
}

impl Kind {
    fn buffer_type(self) -> u32 {
        match self {
            Kind::Single => 1,
            Kind::Multi => 9,
        }
    }
}

/// What a node says about itself.
pub(super) struct Capability {
    pub driver: String,
    pub card: String,
    pub bus: String,
    /// `V4L2_CAP_*` of this node.
    pub flags: u32,
}

/// A frame as the driver lays it out (struct v4l2_pix_format or v4l2_pix_format_mplane, numbers as they are
/// there).
#[derive(Clone, Copy, Debug)]
pub(super) struct PixFormat {
    pub fourcc: [u8; 4],
    pub width: u32,
    pub height: u32,
    pub field: u32,
    pub stride: u32,
    /// Of the second piece of memory, if there is one.
    pub chroma_stride: u32,
    /// Pieces of memory.
    pub pieces: usize,
    pub colorspace: u32,
    pub encoding: u32,
    pub quantization: u32,
}

/// A control (struct v4l2_query_ext_ctrl).
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub id: u32,
    pub kind: u32,
    pub name: String,
    pub minimum: i64,
    pub maximum: i64,
    pub step: u64,
    pub default: i64,
    pub flags: u32,
    /// How many values it has; 1 but for arrays.
    pub elements: u32,
}

/// One ioctl with one structure, again if a signal came between.
///
/// # Safety
/// `request` takes a `T`, and whatever `argument` points to is valid for it.
unsafe fn call<T>(handle: &Handle, request: vidioc::_IOC_TYPE, argument: &mut T) -> io::Result<()> {
    loop {
        let argument = std::ptr::from_mut(argument).cast::<c_void>();
        // SAFETY: the caller's promise; the descriptor lives as long as `handle`.
        match unsafe { ioctl(handle.fd(), request, argument) } {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
            done => return done,
        }
    }
}

/// Text up to the first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().to_string()
}

/// Reads the device's name, its driver and what it can do (VIDIOC_QUERYCAP).
pub(super) fn capability(device: &Device) -> io::Result<Capability> {
    // SAFETY: plain numbers, for which zero is valid; the ioctl takes this structure.
    let caps = unsafe {
        let mut caps: v4l2_capability = mem::zeroed();
        call(&device.handle(), vidioc::VIDIOC_QUERYCAP, &mut caps)?;
        caps
    };
    /// Set if the node lists its own capabilities beside those of the whole device.
    const DEVICE_CAPS: u32 = 0x8000_0000;
    Ok(Capability {
        driver: text(&caps.driver),
        card: text(&caps.card),
        bus: text(&caps.bus_info),
        flags: if caps.capabilities & DEVICE_CAPS != 0 {
            caps.device_caps
        } else {
            caps.capabilities
        },
    })
}

/// VIDIOC_S_FMT: progressive frames of this size; returns what the driver made of it.
pub(super) fn set_format(
    device: &Device,
    kind: Kind,
    fourcc: [u8; 4],
    width: u32,
    height: u32,
) -> io::Result<PixFormat> {
    const PROGRESSIVE: u32 = 1;
    let code = u32::from_le_bytes(fourcc);
    // SAFETY: plain numbers, for which zero is valid; of the union, each buffer type uses its own member. Of the
    // unions within, both members are the same number.
    unsafe {
        let mut format: v4l2_format = mem::zeroed();
        format.type_ = kind.buffer_type();
        match kind {
            Kind::Single => {
                format.fmt.pix.pixelformat = code;
                format.fmt.pix.width = width;
                format.fmt.pix.height = height;
                format.fmt.pix.field = PROGRESSIVE;
            }
            Kind::Multi => {
                format.fmt.pix_mp.pixelformat = code;
                format.fmt.pix_mp.width = width;
                format.fmt.pix_mp.height = height;
                format.fmt.pix_mp.field = PROGRESSIVE;
            }
        }
        call(&device.handle(), vidioc::VIDIOC_S_FMT, &mut format)?;
        Ok(match kind {
            Kind::Single => {
                let pix = format.fmt.pix;
                PixFormat {
                    fourcc: pix.pixelformat.to_le_bytes(),
                    width: pix.width,
                    height: pix.height,
                    field: pix.field,
                    stride: pix.bytesperline,
                    chroma_stride: 0,
                    pieces: 1,
                    colorspace: pix.colorspace,
                    encoding: pix.__bindgen_anon_1.ycbcr_enc,
                    quantization: pix.quantization,
                }
            }
            Kind::Multi => {
                let pix = format.fmt.pix_mp;
                let planes = pix.plane_fmt;
                let code = pix.pixelformat;
                let [stride, chroma_stride] = [planes[0].bytesperline, planes[1].bytesperline];
                PixFormat {
                    fourcc: code.to_le_bytes(),
                    width: pix.width,
                    height: pix.height,
                    field: pix.field,
                    stride,
                    chroma_stride,
                    pieces: pix.num_planes.into(),
                    colorspace: pix.colorspace,
                    encoding: u32::from(pix.__bindgen_anon_1.ycbcr_enc),
                    quantization: u32::from(pix.quantization),
                }
            }
        })
    }
}

/// A format that a node has.
pub(super) struct Described {
    pub fourcc: [u8; 4],
    pub description: String,
}

/// VIDIOC_ENUM_FMT: all formats.
pub(super) fn formats(device: &Device, kind: Kind) -> io::Result<Vec<Described>> {
    let mut found = vec![];
    // A bound, in case a driver never says that this was the last.
    for index in 0..1000 {
        // SAFETY: plain numbers and text, for which zero is valid; the ioctl takes this structure.
        let format = unsafe {
            let mut format: v4l2_fmtdesc = mem::zeroed();
            format.index = index;
            format.type_ = kind.buffer_type();
            match call(&device.handle(), vidioc::VIDIOC_ENUM_FMT, &mut format) {
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => break,
                done => done?,
            }
            format
        };
        found.push(Described {
            fourcc: format.pixelformat.to_le_bytes(),
            description: text(&format.description),
        });
    }
    Ok(found)
}

/// VIDIOC_G_PARM: the time from one frame to the next, as a fraction of seconds.
pub(super) fn interval(device: &Device, kind: Kind) -> io::Result<(u32, u32)> {
    parameters(device, kind, None)
}

/// VIDIOC_S_PARM: sets it; returns what the driver made of it.
pub(super) fn set_interval(
    device: &Device,
    kind: Kind,
    interval: (u32, u32),
) -> io::Result<(u32, u32)> {
    parameters(device, kind, Some(interval))
}

fn parameters(device: &Device, kind: Kind, set: Option<(u32, u32)>) -> io::Result<(u32, u32)> {
    // SAFETY: plain numbers, for which zero is valid; of the union, capture uses this member.
    unsafe {
        let mut parameters: v4l2_streamparm = mem::zeroed();
        parameters.type_ = kind.buffer_type();
        let request = match set {
            None => vidioc::VIDIOC_G_PARM,
            Some((numerator, denominator)) => {
                let interval = &mut parameters.parm.capture.timeperframe;
                (interval.numerator, interval.denominator) = (numerator, denominator);
                vidioc::VIDIOC_S_PARM
            }
        };
        call(&device.handle(), request, &mut parameters)?;
        let interval = parameters.parm.capture.timeperframe;
        Ok((interval.numerator, interval.denominator))
    }
}

const MMAP: u32 = 1;

/// VIDIOC_REQBUFS: so many buffers that can be mapped; 0 gives all back. Returns how many there are.
pub(super) fn request_buffers(handle: &Handle, kind: Kind, count: u32) -> io::Result<u32> {
    // SAFETY: plain numbers, for which zero is valid; the ioctl takes this structure.
    unsafe {
        let mut request: v4l2_requestbuffers = mem::zeroed();
        request.count = count;
        request.type_ = kind.buffer_type();
        request.memory = MMAP;
        call(handle, vidioc::VIDIOC_REQBUFS, &mut request)?;
        Ok(request.count)
    }
}

/// A piece of memory that the driver fills.
pub(super) struct Mapped(MmapRaw);

impl Mapped {
    /// What lies in it.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for reading, and so long. The driver writes to it only while the buffer is queued;
        // whoever asks for its bytes holds it.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr(), self.0.len()) }
    }
}

/// A buffer's structure with one for each of its pieces of memory, which a multi-planar call fills.
fn with_buffer<T>(
    kind: Kind,
    pieces: usize,
    call: impl FnOnce(&mut v4l2_buffer) -> io::Result<T>,
) -> io::Result<(v4l2_buffer, [v4l2_plane; 8], T)> {
    // SAFETY: plain numbers, for which zero is valid. The one structure points to the others, which outlive the
    // call; nobody follows that pointer afterwards.
    unsafe {
        let mut planes: [v4l2_plane; 8] = mem::zeroed();
        let mut buffer: v4l2_buffer = mem::zeroed();
        buffer.type_ = kind.buffer_type();
        buffer.memory = MMAP;
        if kind == Kind::Multi {
            buffer.m.planes = planes.as_mut_ptr();
            buffer.length = pieces.min(8) as u32;
        }
        let result = call(&mut buffer)?;
        Ok((buffer, planes, result))
    }
}

/// VIDIOC_QUERYBUF and mmap: a buffer's pieces of memory.
pub(super) fn map_buffer(handle: &Handle, kind: Kind, index: u32) -> io::Result<Vec<Mapped>> {
    let (buffer, planes, ()) = with_buffer(kind, 8, |buffer| {
        buffer.index = index;
        // SAFETY: the ioctl takes this structure.
        unsafe { call(handle, vidioc::VIDIOC_QUERYBUF, buffer) }
    })?;
    let map = |length: u32, offset: u32| {
        let mut options = MmapOptions::new();
        options.len(length as usize).offset(offset.into());
        options.map_raw_read_only(handle.fd()).map(Mapped)
    };
    match kind {
        // SAFETY: of the unions, mapped memory uses this member.
        Kind::Single => unsafe { Ok(vec![map(buffer.length, buffer.m.offset)?]) },
        Kind::Multi => planes
            .iter()
            .take(buffer.length as usize)
            // SAFETY: as above.
            .map(|plane| unsafe { map(plane.length, plane.m.mem_offset) })
            .collect(),
    }
}

/// VIDIOC_QBUF: the driver may fill it.
pub(super) fn queue_buffer(
    handle: &Handle,
    kind: Kind,
    index: u32,
    pieces: usize,
) -> io::Result<()> {
    let queued = with_buffer(kind, pieces, |buffer| {
        buffer.index = index;
        // SAFETY: the ioctl takes this structure.
        unsafe { call(handle, vidioc::VIDIOC_QBUF, buffer) }
    });
    queued.map(|_| ())
}

/// A buffer that the driver filled.
pub(super) struct Buffer {
    pub index: u32,
    pub flags: u32,
    pub sequence: u32,
    pub seconds: i64,
    pub micros: i64,
    /// Where the picture begins and ends in each piece of memory.
    pub used: [(u32, u32); PIECES],
}

/// VIDIOC_DQBUF: takes one, without waiting.
pub(super) fn take_buffer(handle: &Handle, kind: Kind) -> io::Result<Buffer> {
    let (buffer, planes, ()) = with_buffer(kind, 8, |buffer| {
        // SAFETY: the ioctl takes this structure.
        unsafe { call(handle, vidioc::VIDIOC_DQBUF, buffer) }
    })?;
    let mut used = [(0, 0); PIECES];
    match kind {
        Kind::Single => used[0] = (0, buffer.bytesused),
        Kind::Multi => {
            for (used, plane) in used.iter_mut().zip(&planes) {
                *used = (plane.data_offset, plane.bytesused);
            }
        }
    }
    Ok(Buffer {
        index: buffer.index,
        flags: buffer.flags,
        sequence: buffer.sequence,
        seconds: buffer.timestamp.tv_sec,
        micros: buffer.timestamp.tv_usec,
        used,
    })
}

/// VIDIOC_STREAMON, VIDIOC_STREAMOFF.
pub(super) fn set_streaming(handle: &Handle, kind: Kind, on: bool) -> io::Result<()> {
    let request = match on {
        true => vidioc::VIDIOC_STREAMON,
        false => vidioc::VIDIOC_STREAMOFF,
    };
    let mut buffer_type = kind.buffer_type();
    // SAFETY: the ioctls take a pointer to this number.
    unsafe { call(handle, request, &mut buffer_type) }
}

/// VIDIOC_QUERY_EXT_CTRL: all controls with one value (no compound ones), in the driver's order.
pub(super) fn controls(device: &Device) -> Vec<Query> {
    let mut found: Vec<Query> = vec![];
    loop {
        let last = found.last().map_or(0, |query| query.id);
        // SAFETY: plain numbers and text, for which zero is valid; the ioctl takes this structure.
        let query = unsafe {
            let mut query: v4l2_query_ext_ctrl = mem::zeroed();
            query.id = last | V4L2_CTRL_FLAG_NEXT_CTRL;
            // EINVAL at the end, ENOTTY without any.
            if call(&device.handle(), vidioc::VIDIOC_QUERY_EXT_CTRL, &mut query).is_err() {
                return found;
            }
            query
        };
        // A driver that does not get on would keep us here.
        if query.id <= last {
            return found;
        }
        found.push(Query {
            id: query.id,
            kind: query.type_,
            name: text(&query.name.map(|c| c as u8)),
            minimum: query.minimum,
            maximum: query.maximum,
            step: query.step,
            default: query.default_value,
            flags: query.flags,
            elements: query.elems,
        });
    }
}

/// VIDIOC_QUERYMENU: the text of a menu's item, or an integer menu's number; `None` if the item is left
/// out.
pub(super) fn menu_item(device: &Device, id: u32, index: u32, integer: bool) -> Option<String> {
    // SAFETY: plain numbers and text, for which zero is valid; the ioctl takes this structure and fills
    // the member of the union that belongs to the menu's kind.
    unsafe {
        let mut item: v4l2_querymenu = mem::zeroed();
        item.id = id;
        item.index = index;
        call(&device.handle(), vidioc::VIDIOC_QUERYMENU, &mut item).ok()?;
        Some(if integer {
            let value = item.__bindgen_anon_1.value;
            value.to_string()
        } else {
            let name = item.__bindgen_anon_1.name;
            text(&name)
        })
    }
}

/// VIDIOC_G_EXT_CTRLS: the value of a control that has one number.
pub(super) fn value(device: &Device, query: &Query) -> io::Result<i64> {
    const INTEGER64: u32 = 5;
    const BITMASK: u32 = 8;
    // SAFETY: zero is valid for both structures; the one points to the other, which outlives the call
    // and, with size 0, stands for a single number.
    unsafe {
        let mut control: v4l2_ext_control = mem::zeroed();
        control.id = query.id;
        let mut controls: v4l2_ext_controls = mem::zeroed();
        controls.count = 1;
        controls.controls = &raw mut control;
        call(&device.handle(), vidioc::VIDIOC_G_EXT_CTRLS, &mut controls)?;
        let value = control.__bindgen_anon_1;
        Ok(match query.kind {
            INTEGER64 => value.value64,
            // Its 32nd bit is no sign.
            BITMASK => i64::from(value.value as u32),
            _ => i64::from(value.value),
        })
    }
}
