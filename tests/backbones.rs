//! Image encoders without text (tests/golden/backbones, made by the libraries that define them): the same numbers
//! come out, and the bundle judges once it was taught.

mod common;

use burn::tensor::{Device, Tensor as Burn};
use common::{golden, relative, values};
use faprompt_edge::bundle::manifest::{Precision, Selection};
use faprompt_edge::bundle::tap::{Form, Rows, Stream, Tap};
use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::gpu::GpuNetwork;
use faprompt_edge::inspector::{Inspector, KNOWN_TOLERANCE, Options};
use faprompt_edge::ops::slice;
use faprompt_edge::ops::weights::Arithmetic;
use faprompt_edge::train::backbone::Backbone;
use faprompt_edge::train::clip::Overrides;
use faprompt_edge::train::methods::weights::Weights;
use faprompt_edge::train::nn::Maker;
use faprompt_edge::train::nn::image::cut;
use faprompt_edge::train::nn::layers::{put, values as numbers};
use faprompt_edge::train::tensors::Tensors;
use faprompt_edge::vision::{Encoder, Preprocessor};
use image::{Rgb, RgbImage};
use std::path::Path;
use std::process::{Command, Output};
use tract_core::prelude::{Datum, Tensor};

/// What the last block's normalised rows and the first block's raw rows are off by, relative, at the weights' own
/// size and at another.
fn off(weights: &str, overrides: &Overrides, precision: Precision) -> [f32; 4] {
    let path = golden("backbones").join(weights);
    let folder = if path.is_dir() {
        &path
    } else {
        path.parent().unwrap()
    };
    let want = Tensors::load(&folder.join("expected.safetensors")).unwrap();
    let backbone = Backbone::load(&path, overrides).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut found = vec![];
    for size in [56, 84] {
        let mut options = common::options(Selection::Paper, precision);
        options.image_size = Some(size);
        let out = scratch.path().join(format!("{size}.bundle"));
        backbone.export(&options, None, &out).unwrap();
        let bundle = Bundle::open(&out, &Keys::default()).unwrap();
        // What a device that computes wrongly is found by.
        let mut inspector = Inspector::new(&bundle, Options::default()).unwrap();
        let (known, score) = (inspector.known_score(), inspector.known_frame_score());
        let far = (known.unwrap() - score.unwrap()).abs();
        assert!(far < KNOWN_TOLERANCE, "{weights}: {far}");
        let tap = |block, form| Tap {
            block,
            stream: Stream::X,
            form,
            rows: Rows::All,
        };
        let taps = [tap(2, Form::LnPost), tap(1, Form::Raw)];
        let mut encoder = Encoder::with_taps(&bundle, &taps, 0, Arithmetic::Auto).unwrap();
        let pixels = values(&want, &format!("pixels.{size}"));
        let pixels = Tensor::from_shape(&[3, size, size], &pixels).unwrap();
        let rows = encoder.taps(pixels).unwrap();
        for (rows, name) in rows.iter().zip(["last", "first"]) {
            let want = values(&want, &format!("{name}.{size}"));
            found.push(relative(slice(rows).unwrap(), &want));
        }
    }
    found.try_into().unwrap()
}

/// No configuration says how many heads these weights have.
fn two_heads() -> Overrides {
    Overrides {
        heads: Some([2, 2]),
        ..Overrides::default()
    }
}

#[test]
fn numbers_are_those_of_the_libraries() {
    for (weights, overrides) in [
        ("hugging_face", Overrides::default()),
        ("hugging_face_registers", Overrides::default()),
        ("timm_registers", two_heads()),
        ("timm_vit", two_heads()),
        ("authors/dinov2_tiny14_pretrain.pth", two_heads()),
    ] {
        let off = off(weights, &overrides, Precision::F32);
        assert!(off.iter().all(|v| *v < 1e-3), "{weights}: off by {off:?}");
    }
}

#[test]
fn smaller_weights_move_them_little() {
    for (precision, limit) in [(Precision::F16, 2e-3), (Precision::Int8, 6e-2)] {
        let off = off("hugging_face_registers", &Overrides::default(), precision);
        assert!(
            off.iter().all(|v| *v < limit),
            "{precision:?}: off by {off:?}"
        );
    }
}

/// The same graph that `--runtime cuda` moves to a card, run by tract's CPU runtime.
#[test]
fn the_gpus_graph_has_the_same_rows() {
    let scratch = tempfile::tempdir().unwrap();
    for weights in ["hugging_face", "hugging_face_registers"] {
        let backbone = Backbone::load(&golden("backbones").join(weights), &Overrides::default());
        let mut options = common::options(Selection::Paper, Precision::F32);
        options.image_size = Some(84);
        let out = scratch.path().join("g.bundle");
        backbone.unwrap().export(&options, None, &out).unwrap();
        let bundle = Bundle::open(&out, &Keys::default()).unwrap();
        let tap = |block, form, rows| Tap {
            block,
            stream: Stream::X,
            form,
            rows,
        };
        let taps = [
            tap(2, Form::LnPost, Rows::All),
            tap(2, Form::LnPost, Rows::Patches),
            tap(1, Form::Raw, Rows::Class),
        ];
        let frame = Preprocessor::new(&bundle.manifest().image)
            .run(&part(1, true))
            .unwrap();
        let mut encoder = Encoder::with_taps(&bundle, &taps, 0, Arithmetic::F32).unwrap();
        let want = encoder.taps(frame.clone()).unwrap();
        let mut gpu = GpuNetwork::encoder_on("cpu", &bundle, &taps, f32::datum_type()).unwrap();
        let got = gpu.run(frame).unwrap();
        for (got, want) in got.taps().iter().zip(want) {
            let off = relative(slice(got).unwrap(), slice(want).unwrap());
            assert!(off < 1e-5, "{weights}: off by {off}");
        }
    }
}

#[test]
fn what_nobody_says_is_assumed_aloud() {
    let path = golden("backbones/authors/dinov2_tiny14_pretrain.pth");
    let backbone = Backbone::load(&path, &Overrides::default()).unwrap();
    let said = backbone.assumed.join("; ");
    for word in [
        "attention heads 1",
        "epsilon 1e-6",
        "mean of ImageNet",
        "--heads",
        "--std",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let said = Backbone::load(&golden("backbones/hugging_face"), &Overrides::default()).unwrap();
    assert_eq!(said.assumed, Vec::<String>::new());
    assert_eq!(said.preprocess.std, [0.229, 0.224, 0.225]);
    let timm = Backbone::load(&golden("backbones/timm_vit"), &two_heads()).unwrap();
    assert_eq!((timm.preprocess.std, timm.epsilon), ([0.25; 3], 1e-6));
}

/// A folder with one thing changed in its configuration.
fn changed(from: &str, to: &str) -> Result<Backbone, String> {
    let folder = tempfile::tempdir().unwrap();
    let own = golden("backbones/hugging_face");
    std::fs::copy(
        own.join("model.safetensors"),
        folder.path().join("model.safetensors"),
    )
    .unwrap();
    let config = std::fs::read_to_string(own.join("config.json")).unwrap();
    assert!(config.contains(from));
    std::fs::write(folder.path().join("config.json"), config.replace(from, to)).unwrap();
    Backbone::load(folder.path(), &Overrides::default()).map_err(|e| e.to_string())
}

#[test]
fn other_networks_are_refused_by_name() {
    for (from, to, word) in [
        ("\"dinov2\"", "\"dinov3_vit\"", "DINOv3"),
        ("\"gelu\"", "\"silu\"", "`hidden_act` = silu"),
        (
            "\"use_swiglu_ffn\": false",
            "\"use_swiglu_ffn\": true",
            "gated MLPs",
        ),
        (
            "\"num_attention_heads\": 2",
            "\"num_attention_heads\": 3",
            "3 heads",
        ),
        (
            "\"layer_norm_eps\": 1e-06",
            "\"layer_norm_eps\": \"small\"",
            "layer_norm_eps",
        ),
        (
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 3",
            "`num_hidden_layers` = 3, but the tensors have 2",
        ),
    ] {
        let error = changed(from, to).err().unwrap_or_default();
        assert!(error.contains(word), "{word}: {error}");
    }
    for (text, wanted) in [
        ("{\"do_rescale\": false}", Err("`do_rescale` = false")),
        ("{\"rescale_factor\": 1.0}", Err("`rescale_factor` = 1")),
        ("{\"do_normalize\": false}", Ok([1.0; 3])),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for name in ["model.safetensors", "config.json"] {
            let from = golden("backbones/hugging_face").join(name);
            std::fs::copy(from, folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("preprocessor_config.json"), text).unwrap();
        let read = Backbone::load(folder.path(), &Overrides::default());
        match (read, wanted) {
            (Ok(read), Ok(std)) => assert_eq!(read.preprocess.std, std),
            (Err(e), Err(word)) => assert!(e.to_string().contains(word), "{e}"),
            (read, _) => panic!("{text}: {:?}", read.err().map(|e| e.to_string())),
        }
    }
    let clip = golden("layouts/hugging_face");
    let error = Backbone::load(&clip, &Overrides::default()).err().unwrap();
    let error = error.to_string();
    assert!(error.contains("--clip"), "{error}");
    assert!(
        error.contains("looked for `patch_embed.proj.weight`")
            && error.contains("its tensors begin with `logit_scale`, `text_model.`"),
        "{error}"
    );
    let elsewhere = Overrides {
        prefix: Some("teacher".into()),
        ..Overrides::default()
    };
    let weights = golden("backbones/authors/dinov2_tiny14_pretrain.pth");
    let error = Backbone::load(&weights, &elsewhere).err().unwrap();
    let error = error.to_string();
    assert!(
        error.contains("below --prefix teacher (one is there without a prefix)"),
        "{error}"
    );
    let graph = golden("networks/rows.onnx");
    let error = Backbone::load(&graph, &Overrides::default()).err().unwrap();
    assert!(error.to_string().contains("--encoder takes it"), "{error}");
}

fn run(program: &str, arguments: &[&Path]) -> Output {
    let program = match program {
        "faprompt-train" => env!("CARGO_BIN_EXE_faprompt-train"),
        _ => env!("CARGO_BIN_EXE_faprompt-edge"),
    };
    Command::new(program).args(arguments).output().unwrap()
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// A part with a grain of its own, and with a dark hole if it is `bad`.
fn part(seed: u32, bad: bool) -> RgbImage {
    RgbImage::from_fn(56, 56, |x, y| {
        let grain = (x * 7 + y * 13 + seed * 31).wrapping_mul(2_654_435_761) >> 27;
        let hole = bad && (20..36).contains(&x) && (20..36).contains(&y);
        let level = if hole {
            10
        } else {
            120 + x as u8 + (grain % 16) as u8
        };
        Rgb([level, level / 2 + 40, 200 - level / 2])
    })
}

#[test]
fn it_judges_once_it_was_taught() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let p = Path::new;
    let weights = golden("backbones/hugging_face_registers");
    for (precision, bundle) in [("f32", at("f32.bundle")), ("int8", at("int8.bundle"))] {
        let good = at("good");
        std::fs::create_dir_all(&good).unwrap();
        for i in 0..8 {
            part(i, false).save(good.join(format!("{i}.png"))).unwrap();
        }
        part(9, false).save(at("fine.png")).unwrap();
        part(10, true).save(at("hole.png")).unwrap();
        let out = run(
            "faprompt-train",
            &[
                p("export"),
                p("--weights"),
                &weights,
                p("--precision"),
                p(precision),
                p("--out"),
                &bundle,
            ],
        );
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        assert!(
            said(&out).contains("3 registers") && said(&out).contains("teach"),
            "{}",
            said(&out)
        );
        let info = said(&run("faprompt-edge", &[p("bundle"), p("info"), &bundle]));
        assert!(info.contains("memory") && info.contains("none"), "{info}");
        // Without good parts it has no opinion, and says what to do.
        let fine = at("fine.png");
        let out = run(
            "faprompt-edge",
            &[p("inspect"), p("--bundle"), &bundle, &fine],
        );
        assert_eq!(out.status.code(), Some(27), "{}", said(&out));
        assert!(said(&out).contains("faprompt-edge teach"), "{}", said(&out));
        let taught = at("parts.taught");
        let out = run(
            "faprompt-edge",
            &[
                p("teach"),
                &good,
                p("--bundle"),
                &bundle,
                p("--out"),
                &taught,
            ],
        );
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        let judge = |photo: &str| {
            let photo = at(photo);
            let arguments = [
                p("inspect"),
                p("--json"),
                p("--bundle"),
                &bundle,
                p("--taught"),
                &taught,
                &photo,
            ];
            let out = run("faprompt-edge", &arguments);
            let line: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
            assert!(line.get("zero_shot").is_none(), "{line}");
            (out.status.code(), line["score"].as_f64().unwrap())
        };
        let (fine, hole) = (judge("fine.png"), judge("hole.png"));
        assert_eq!(hole.0, Some(1), "{precision}: a hole is a reject: {hole:?}");
        assert!(hole.1 > fine.1 + 0.2, "{precision}: {hole:?}, {fine:?}");
    }
}

/// What learns sees the very rows that the device will judge.
#[test]
fn the_trainers_rows_are_the_libraries() {
    let device = Device::flex();
    for (weights, overrides) in [
        ("hugging_face", Overrides::default()),
        ("hugging_face_registers", Overrides::default()),
        ("timm_registers", two_heads()),
        ("timm_vit", two_heads()),
    ] {
        let path = golden("backbones").join(weights);
        let want = Tensors::load(&path.join("expected.safetensors")).unwrap();
        let backbone = Backbone::load(&path, &overrides).unwrap();
        let tap = |block, form, rows| Tap {
            block,
            stream: Stream::X,
            form,
            rows,
        };
        for size in [56usize, 84] {
            let grid = size / backbone.patch;
            let mut maker = Maker::new(&device, false);
            let tower = Weights::from(&backbone).tower(grid, backbone.how, 0, &mut maker);
            let mut patches = vec![];
            let pixels = values(&want, &format!("pixels.{size}"));
            cut(&pixels, size, backbone.patch, &mut patches);
            let shape = [1, grid * grid, 3 * backbone.patch.pow(2)];
            let input: Burn<3> = put(patches, shape, &device);
            let taps = [
                tap(2, Form::LnPost, Rows::All),
                tap(1, Form::Raw, Rows::All),
                tap(2, Form::LnPost, Rows::Class),
                tap(2, Form::LnPost, Rows::Patches),
            ];
            let found = tower.taps(input.clone(), &taps, &[]);
            for (rows, name) in found.iter().zip(["last", "first"]) {
                let off = relative(&numbers(rows), &values(&want, &format!("{name}.{size}")));
                assert!(off < 1e-3, "{weights}, {name} at {size} px: off by {off}");
            }
            let all = numbers(&found[0]);
            let (class, patches) = all.split_at(backbone.width);
            assert_eq!(numbers(&found[2]), class);
            assert_eq!(numbers(&found[3]), patches);
            // Of a last block that only the class row is wanted of.
            let alone = tower.taps(input, &taps[2..3], &[]);
            assert!(relative(&numbers(&alone[0]), class) < 1e-5, "{weights}");
        }
    }
}

/// Pictures in MVTec AD's layout, holes with their masks.
fn labelled(folder: &Path) {
    for kind in ["train/good", "test/good", "test/hole", "ground_truth/hole"] {
        std::fs::create_dir_all(folder.join("part").join(kind)).unwrap();
    }
    let at = |kind: &str, i: u32| folder.join(format!("part/{kind}/{i:03}.png"));
    let mask = image::GrayImage::from_fn(56, 56, |x, y| {
        image::Luma([255 * u8::from((20..36).contains(&x) && (20..36).contains(&y))])
    });
    for i in 0..8 {
        part(i, false).save(at("test/good", i)).unwrap();
        part(20 + i, true).save(at("test/hole", i)).unwrap();
        part(40 + i, false).save(at("train/good", i)).unwrap();
        let name = folder.join(format!("part/ground_truth/hole/{i:03}_mask.png"));
        mask.save(name).unwrap();
    }
}

#[test]
fn heads_are_learned_without_text() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    labelled(&folder.path().join("set"));
    part(90, false).save(at("fine.png")).unwrap();
    part(91, true).save(at("hole.png")).unwrap();
    let train = |words: &str| {
        let arguments: Vec<&str> = words.split(' ').collect();
        let program = env!("CARGO_BIN_EXE_faprompt-train");
        Command::new(program).args(arguments).output().unwrap()
    };
    let fails = |words: &str, why: &str| {
        let out = train(words);
        assert_ne!(out.status.code(), Some(0), "{words}");
        assert!(said(&out).contains(why), "{words}: {}", said(&out));
    };
    let (set, cache) = (at("set"), at("cache"));
    for name in ["hugging_face", "hugging_face_registers"] {
        let weights = golden("backbones").join(name).display().to_string();
        let out = at(name);
        let fit = format!(
            "fit {set} --method heads --weights {weights} --out {out} --cache {cache} --epochs 6 --batch 4 --lr 0.02"
        );
        // Learned in two pieces.
        let first = train(&format!("{fit} --stop-after 2"));
        assert!(said(&first).contains("epoch  2"), "{}", said(&first));
        fails(&fit, "--resume");
        let rest = train(&format!("{fit} --resume"));
        assert_eq!(rest.status.code(), Some(0), "{}", said(&rest));
        assert!(said(&rest).contains("--weights"), "{}", said(&rest));
        let again = fit.replace("--epochs 6", "--epochs 4");
        fails(
            &format!("{again} --resume"),
            "--epochs: there 6 epochs, here 4",
        );
        for (other, why) in [
            ("--products bf16", "products: there \"f32\", here \"bf16\""),
            ("--temperature 0.5", "temperature: there null, here 0.5"),
            ("--mean 0,0,0", "mean: there [0.48"),
            ("--seed 3", "seed: there 111, here 3"),
        ] {
            fails(&format!("{fit} --resume {other}"), why);
        }
        // Before a picture is encoded, not after.
        let elsewhere = fit.replace(&cache, &at("empty"));
        let refused = said(&train(&format!("{elsewhere} --resume --seed 3")));
        assert!(
            refused.contains("seed: there") && !refused.contains("encoded"),
            "{refused}"
        );
        let state = Path::new(&out).join("epoch-6.optimizer");
        let whole = std::fs::read(&state).unwrap();
        std::fs::write(&state, &whole[..whole.len() / 2]).unwrap();
        fails(
            &format!("{fit} --resume"),
            "epoch-6.optimizer: the optimizer's state cannot be read",
        );
        let learned = format!("{out}/learned.safetensors");
        let mut scores = vec![];
        for precision in ["f32", "int8"] {
            let bundle = at(&format!("{name}.{precision}.bundle"));
            let export = format!(
                "export --method heads --weights {weights} --prompts {learned} --out {bundle} --precision {precision}"
            );
            let made = train(&export);
            assert_eq!(made.status.code(), Some(0), "{}", said(&made));
            let p = Path::new;
            let info = run("faprompt-edge", &[p("bundle"), p("info"), p(&bundle)]);
            assert!(said(&info).contains("heads"), "{}", said(&info));
            for photo in ["fine.png", "hole.png"] {
                let photo = at(photo);
                let arguments = [
                    p("inspect"),
                    p("--json"),
                    p("--bundle"),
                    p(&bundle),
                    p(&photo),
                ];
                let out = run("faprompt-edge", &arguments);
                let line: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
                assert_eq!(line["method"], "heads", "{line}");
                scores.push(line["score"].as_f64().unwrap());
            }
            let json = at("figures.json");
            let judged = train(&format!(
                "evaluate --bundle {bundle} {set} --json {json} --threads 1"
            ));
            assert_eq!(judged.status.code(), Some(0), "{}", said(&judged));
            let text = std::fs::read_to_string(&json).unwrap();
            let figures: serde_json::Value = serde_json::from_str(&text).unwrap();
            let mean = &figures[0]["mean"];
            println!("{name} {precision} {scores:?}: {mean}");
            for figure in ["image_auroc", "pixel_auroc"] {
                let found = mean[figure].as_f64().unwrap();
                assert!(found > 0.95, "{name} {precision}: {figure} {found}");
            }
        }
        let [fine, hole, int8_fine, int8_hole] = scores.try_into().unwrap();
        assert!(hole > fine + 0.1, "{name}: {hole} and {fine}");
        assert!((int8_fine - fine).abs() < 0.05 && (int8_hole - hole).abs() < 0.05);
    }
    // What does not fit together is refused by name.
    let weights = golden("backbones/hugging_face").display().to_string();
    let other = golden("backbones/hugging_face_registers")
        .display()
        .to_string();
    let learned = at("hugging_face/learned.safetensors");
    let out = at("x");
    let wanted = format!("--weights {weights} --out {out}");
    fails(&format!("fit {set} {wanted}"), "--method heads");
    fails(
        &format!("fit {set} --method april-gan {wanted}"),
        "needs a text encoder",
    );
    fails(
        &format!("export --method heads {wanted}"),
        "needs --prompts",
    );
    fails(
        &format!("export {wanted} --prompts {learned}"),
        "--method heads",
    );
    fails(
        &format!("export --method heads --weights {other} --prompts {learned} --out {out}"),
        "other weights",
    );
    let onnx = at("x.onnx");
    fails(
        &format!("export --method heads {wanted} --prompts {learned} --onnx {onnx}"),
        "no heads",
    );
}
