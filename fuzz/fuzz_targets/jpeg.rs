//! JPEG: bytes to a picture that is whole, or to the reason why not; what is whole is decoded.
//!
//! The corpus holds the small pictures of `tests/photos`. Large sizes are left out: decoding them is the decoder's
//! work, and takes long.
#![no_main]

use faprompt_edge::capture::jpeg::Checker;
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;

/// Pixels that are decoded at most.
const PIXELS: u32 = 1 << 16;

thread_local! {
    static CHECKER: RefCell<Checker> = RefCell::default();
}

fuzz_target!(|data: &[u8]| {
    CHECKER.with_borrow_mut(|used| {
        let new = Checker::default().check(data).map(|_| ());
        let picture = used.check(data);
        // Whatever an earlier picture left behind changes nothing.
        assert_eq!(new, picture.clone().map(|_| ()));
        let Ok(picture) = picture else { return };
        let pixels = picture.width.saturating_mul(picture.height);
        if pixels <= PIXELS {
            let mut rgb = vec![0; 3 * pixels as usize];
            // Of a kind that the decoder does not read, at worst.
            let _ = picture.decode(&mut vec![], &mut rgb);
        }
    });
});
