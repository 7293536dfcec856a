//! The ioctls that `v4l` 0.14 has no safe call for.
//!
//! It panics on control types it does not know (vivid and Jetson drivers have some) and on names that
//! are no UTF-8, drops `ycbcr_enc`, and cannot read integer menus and bit masks. `unsafe` for that
//! reason: each block passes one zeroed structure of linux/videodev2.h to the one ioctl that takes it.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::{io, mem};
use v4l::Device;
use v4l::buffer::Type;
use v4l::v4l_sys::{
    V4L2_CTRL_FLAG_NEXT_CTRL, v4l2_capability, v4l2_ext_control, v4l2_ext_controls, v4l2_format,
    v4l2_query_ext_ctrl, v4l2_querymenu,
};
use v4l::v4l2::{ioctl, vidioc};

/// What a node says about itself.
pub(super) struct Capability {
    pub driver: String,
    pub card: String,
    pub bus: String,
    /// `V4L2_CAP_*` of this node.
    pub flags: u32,
}

/// A frame as the driver lays it out (struct v4l2_pix_format, numbers as they are there).
#[derive(Clone, Copy, Debug)]
pub(super) struct PixFormat {
    pub fourcc: [u8; 4],
    pub width: u32,
    pub height: u32,
    pub field: u32,
    pub stride: u32,
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
unsafe fn call<T>(device: &Device, request: vidioc::_IOC_TYPE, argument: &mut T) -> io::Result<()> {
    loop {
        let argument = std::ptr::from_mut(argument).cast::<c_void>();
        // SAFETY: the caller's promise; the descriptor lives as long as `device`.
        match unsafe { ioctl(device.handle().fd(), request, argument) } {
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

/// VIDIOC_QUERYCAP.
pub(super) fn capability(device: &Device) -> io::Result<Capability> {
    // SAFETY: plain numbers, for which zero is valid; the ioctl takes this structure.
    let caps = unsafe {
        let mut caps: v4l2_capability = mem::zeroed();
        call(device, vidioc::VIDIOC_QUERYCAP, &mut caps)?;
        caps
    };
    /// The node's own capabilities are told apart from the whole device's.
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
    fourcc: [u8; 4],
    width: u32,
    height: u32,
) -> io::Result<PixFormat> {
    const PROGRESSIVE: u32 = 1;
    // SAFETY: plain numbers, for which zero is valid; of the union, this buffer type uses `pix`.
    let pix = unsafe {
        let mut format: v4l2_format = mem::zeroed();
        format.type_ = Type::VideoCapture as u32;
        format.fmt.pix.pixelformat = u32::from_le_bytes(fourcc);
        format.fmt.pix.width = width;
        format.fmt.pix.height = height;
        format.fmt.pix.field = PROGRESSIVE;
        call(device, vidioc::VIDIOC_S_FMT, &mut format)?;
        format.fmt.pix
    };
    Ok(PixFormat {
        fourcc: pix.pixelformat.to_le_bytes(),
        width: pix.width,
        height: pix.height,
        field: pix.field,
        stride: pix.bytesperline,
        colorspace: pix.colorspace,
        // SAFETY: both members of the union are this number.
        encoding: unsafe { pix.__bindgen_anon_1.ycbcr_enc },
        quantization: pix.quantization,
    })
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
            if call(device, vidioc::VIDIOC_QUERY_EXT_CTRL, &mut query).is_err() {
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
        call(device, vidioc::VIDIOC_QUERYMENU, &mut item).ok()?;
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
        call(device, vidioc::VIDIOC_G_EXT_CTRLS, &mut controls)?;
        let value = control.__bindgen_anon_1;
        Ok(match query.kind {
            INTEGER64 => value.value64,
            // Its 32nd bit is no sign.
            BITMASK => i64::from(value.value as u32),
            _ => i64::from(value.value),
        })
    }
}
