//! Requests byte by byte, as Modbus Application Protocol V1.1b3 has them.

use crate::Bench;
use faprompt_edge::control::modbus::map::{COILS, DISCRETES, INPUTS, OWN};
use proptest::prelude::*;

#[test]
fn requests_and_answers_of_every_function() {
    let mut bench = Bench::new();
    // The first of each kind behind the map.
    let last = INPUTS.last().unwrap();
    let [high, low] = (last.register + last.words).to_be_bytes();
    // The first gap between them.
    let gap = INPUTS.windows(2).find_map(|pair| {
        let end = pair[0].register + pair[0].words;
        (end < pair[1].register).then_some(end as u8)
    });
    let gap = gap.unwrap();
    let (coil, discrete) = (COILS.len() as u8, DISCRETES.len() as u8);
    let holding = OWN.map(|own| own as u8 + 1).into_iter().max().unwrap();
    for (request, answer) in [
        // Read coils, discrete inputs (fault and line stop are on), holding, input registers.
        (&[1, 0, 0, 0, 3][..], &[1, 1, 0b001][..]),
        (&[2, 0, 2, 0, 8], &[2, 1, 0b1_1000]),
        (&[3, 0, 0, 0, 2], &[3, 4, 0x13, 0x88, 0x01, 0xf4]),
        (&[4, 0, 10, 0, 2], &[4, 4, 0, 0, 0, 0x40]),
        // Write one coil, one register, coils, registers.
        (&[5, 0, 2, 0xff, 0], &[5, 0, 2, 0xff, 0]),
        (&[6, 0, 0, 0x0f, 0xa0], &[6, 0, 0, 0x0f, 0xa0]),
        (&[15, 0, 4, 0, 2, 1, 0b10], &[15, 0, 4, 0, 2]),
        (&[16, 0, 2, 0, 2, 4, 0, 1, 0, 0], &[16, 0, 2, 0, 2]),
        // Functions that are none.
        (&[7], &[0x87, 1]),
        (&[0x17, 0, 0, 0, 1, 0, 0, 0, 1, 2, 0, 0], &[0x97, 1]),
        (&[0x2b, 0x0e, 1, 0], &[0xab, 1]),
        (&[0, 0, 0, 0, 1], &[0x80, 1]),
        // Counts.
        (&[1, 0, 0, 0, 0], &[0x81, 3]),
        (&[1, 0, 0, 0x07, 0xd1], &[0x81, 3]),
        (&[2, 0, 0, 0x07, 0xd1], &[0x82, 3]),
        (&[3, 0, 0, 0, 0], &[0x83, 3]),
        (&[3, 0, 0, 0, 126], &[0x83, 3]),
        (&[4, 0, 0, 0, 126], &[0x84, 3]),
        (&[15, 0, 0, 0, 0, 0], &[0x8f, 3]),
        (&[15, 0, 0, 0, 9, 1, 0], &[0x8f, 3]),
        (&[16, 0, 0, 0, 0, 0], &[0x90, 3]),
        (&[16, 0, 0, 0, 1, 1, 0], &[0x90, 3]),
        (&[16, 0, 0, 0, 1, 2, 0, 0, 0], &[0x90, 3]),
        (&[16, 0, 0, 0, 1, 255], &[0x90, 3]),
        (&[16, 0, 0, 0, 1, 3, 0, 0], &[0x90, 3]),
        (&[15, 0, 0, 0, 1, 249, 0], &[0x8f, 3]),
        (&[3, 0, 0, 0], &[0x83, 3]),
        (&[3, 0, 0, 0, 1, 0], &[0x83, 3]),
        // Addresses.
        (&[1, 0, coil - 1, 0, 2], &[0x81, 2]),
        (&[2, 0, discrete, 0, 1], &[0x82, 2]),
        (&[3, 0, 35, 0, 2], &[0x83, 2]),
        (&[3, 0, holding, 0, 1], &[0x83, 2]),
        (&[3, 0xff, 0xff, 0, 2], &[0x83, 2]),
        (&[4, 0, gap, 0, 1], &[0x84, 2]),
        (&[4, high, low, 0, 1], &[0x84, 2]),
        (&[5, 0, coil, 0xff, 0], &[0x85, 2]),
        (&[6, 0, 2, 0, 1], &[0x86, 2]),
        (&[6, 0, 99, 0, 1], &[0x86, 2]),
        (&[15, 0, coil - 1, 0, 2, 1, 0], &[0x8f, 2]),
        (&[15, 0xff, 0xff, 0, 2, 1, 0], &[0x8f, 2]),
        (&[16, 0xff, 0xff, 0, 2, 4, 0, 0, 0, 0], &[0x90, 2]),
        // Values.
        (&[5, 0, 0, 0, 1], &[0x85, 3]),
        (&[6, 0, 0, 0x27, 0x11], &[0x86, 3]),
    ] {
        assert_eq!(bench.ask(request), answer, "{request:?}");
    }
}

#[test]
fn others_and_all_are_not_answered() {
    let mut bench = Bench::new();
    let threshold = |bench: &mut Bench| bench.read(3, 0, 1)[0];
    let write = [6, 0, 0, 0x0f, 0xa0];
    for other in [2, 17, 247, 255] {
        assert_eq!(bench.send(other, &write), None);
    }
    assert_eq!(threshold(&mut bench), 5000);
    assert_eq!(bench.send(0, &[3, 0, 0, 0, 1]), None);
    assert_eq!(bench.send(0, &[7]), None);
    assert_eq!(bench.send(0, &[6, 0, 0]), None);
    assert_eq!(bench.send(0, &write), None);
    assert_eq!(threshold(&mut bench), 4000);
    // An answer, of whomever.
    assert_eq!(bench.send(1, &[0x83, 2]), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is asked, the answer is to that function and not longer than a frame; nothing that only
    /// reads changes anything.
    #[test]
    fn any_request_is_answered(requests in prop::collection::vec(
        (0u8..20, any::<[u8; 4]>(), prop::collection::vec(any::<u8>(), 0..20)), 1..40)
    ) {
        let mut bench = Bench::new();
        for (function, head, rest) in requests {
            // Half of the addresses and counts are small.
            let head = head.map(|b| if b % 2 == 0 { 0 } else { b });
            let request = [&[function][..], &head, &rest].concat();
            let answer = bench.ask(&request);
            prop_assert!(answer[0] & 0x7f == function && answer.len() <= 253);
            if answer[0] & 0x80 != 0 {
                prop_assert!(matches!(answer[1..], [1 | 2 | 3 | 4 | 6]));
            }
        }
    }
}
