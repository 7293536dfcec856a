//! The tower's rows at any block, as [`crate::bundle::tap`] names them: what the compared methods learn on.

use super::ImageTower;
use crate::bundle::tap::{Form, Rows, Stream, Tap, patches_needed};
use burn::tensor::Tensor;

/// Where rows are: which block they stand behind, of which stream, and how many are the class row's and patches'.
struct Place {
    block: usize,
    stream: Stream,
    rows: usize,
}

impl ImageTower {
    /// Patches [B, N, 3 * patch * patch] in (channel, y, x) order, normalised as CLIP's pictures, to the rows
    /// of each tap, [B, rows, width or C], raw. With `visual` [t, width] of each block, that many learned rows
    /// stand behind the others while a block runs, and are dropped behind it.
    ///
    /// # Panics
    /// If a tap is of the V-V stream of a block that does not have it, or of the texts' space where there is no text.
    pub fn taps(&self, patches: Tensor<3>, taps: &[Tap], visual: &[Tensor<2>]) -> Vec<Tensor<3>> {
        self.taps_at(patches, taps, visual, None)
    }

    /// The same for another number of patches N than the tower has positions for: `resize` [1 + N, 1 + n] makes
    /// theirs of those.
    ///
    /// # Panics
    /// As [`ImageTower::taps`].
    pub fn taps_at(
        &self,
        patches: Tensor<3>,
        taps: &[Tap],
        visual: &[Tensor<2>],
        resize: Option<&Tensor<2>>,
    ) -> Vec<Tensor<3>> {
        let [b, _, _] = patches.dims();
        let mut x = self.embed(patches, resize);
        let [_, rows, width] = x.dims();
        let mut found: Vec<Option<Tensor<3>>> = vec![None; taps.len()];
        let place = |block, stream| Place {
            block,
            stream,
            rows,
        };
        self.take(taps, place(0, Stream::X), &x, &mut found);
        if let Some(registers) = &self.registers {
            let count = registers.val().dims()[0];
            let registers = registers.val().reshape([1, count, width]);
            x = Tensor::cat(vec![x, registers.expand([b, count, width])], 1);
        }
        let first_vv = self.blocks.len() - self.vv_layers;
        let depth = taps.iter().map(|t| t.block).max().unwrap_or(0);
        let vv_wanted = taps.iter().any(|t| t.stream == Stream::Y);
        let mut y = x.clone();
        for (i, block) in self.blocks.iter().take(depth).enumerate() {
            if i == first_vv {
                y = x.clone();
            }
            if let Some(visual) = visual.get(i) {
                let t = visual.dims()[0];
                let learned = visual.clone().reshape([1, t, width]).expand([b, t, width]);
                x = Tensor::cat(vec![x, learned], 1);
            }
            let [q, k, v] = block.heads_of(x.clone());
            if i >= first_vv && vv_wanted {
                y = y + block.attend(v.clone(), v.clone(), v.clone(), None);
                self.take(taps, place(i + 1, Stream::Y), &y, &mut found);
            }
            // Of a last block that nobody wants more of, only the class row goes on.
            let (q, from) = match visual.is_empty() && !patches_needed(taps, i + 1) {
                true => (q.narrow(2, 0, 1), x.narrow(1, 0, 1)),
                false => (q, x),
            };
            x = block.mlp(from + block.attend(q, k, v, None));
            if i < visual.len() {
                x = x.narrow(1, 0, rows);
            }
            self.take(taps, place(i + 1, Stream::X), &x, &mut found);
        }
        let found = found.into_iter().collect::<Option<Vec<_>>>();
        found.expect("every tap is of a stream and a block that the tower has")
    }

    /// Whole streams of pictures: the final V-V stream; after each block, from 0 on (what the first one gets),
    /// the ordinary tokens with the next block's attention added and without; and ln_post(x) @ proj of the
    /// class row. The last block's tokens have no next one: both are the same.
    #[allow(clippy::type_complexity)]
    pub fn streams(
        &self,
        patches: Tensor<3>,
    ) -> (Tensor<3>, Vec<(Tensor<3>, Tensor<3>)>, Tensor<2>) {
        let mut x = self.embed(patches, None);
        let mut y = x.clone();
        let first_vv = self.blocks.len() - self.vv_layers;
        let mut all = vec![];
        for (i, block) in self.blocks.iter().enumerate() {
            if i == first_vv {
                y = x.clone();
            }
            let [q, k, v] = block.heads_of(x.clone());
            if i >= first_vv {
                y = y + block.attend(v.clone(), v.clone(), v.clone(), None);
            }
            let with_next = x.clone() + block.attend(q, k, v, None);
            all.push((with_next.clone(), x));
            x = block.mlp(with_next);
        }
        all.push((x.clone(), x.clone()));
        let [b, _, width] = x.dims();
        let class = self.ln_post.forward(x.narrow(1, 0, 1)).reshape([b, width]);
        (y, all, class.matmul(self.proj()))
    }

    /// What the taps of a stream after a block make of its rows.
    fn take(&self, taps: &[Tap], place: Place, x: &Tensor<3>, found: &mut [Option<Tensor<3>>]) {
        for (tap, found) in taps.iter().zip(found) {
            if (tap.block, tap.stream) != (place.block, place.stream) {
                continue;
            }
            // Registers stand behind them; of some last blocks only the class row is there.
            let n = x.dims()[1].min(place.rows);
            let rows = match tap.rows {
                Rows::Class => x.clone().narrow(1, 0, 1),
                Rows::Patches => x.clone().narrow(1, 1, n - 1),
                Rows::All => x.clone().narrow(1, 0, n),
            };
            let rows = match tap.form {
                Form::Raw | Form::ProjectedRaw => rows,
                Form::LnPost | Form::Projected => self.ln_post.forward(rows),
            };
            *found = Some(match tap.form {
                Form::Raw | Form::LnPost => rows,
                Form::Projected | Form::ProjectedRaw => {
                    let [b, n, width] = rows.dims();
                    let projected = rows.reshape([b * n, width]).matmul(self.proj());
                    let c = projected.dims()[1];
                    projected.reshape([b, n, c])
                }
            });
        }
    }
}
