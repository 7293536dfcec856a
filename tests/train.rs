//! `faprompt-train` from nothing to a bundle: render, fit, ablate, export, evaluate; and what it says of bad
//! input, full disks, interruptions and losses that are NaN.

mod common;

use burn::tensor::Device;
use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::train::clip::Clip;
use faprompt_edge::train::fit::learner::Learner;
use faprompt_edge::train::fit::{Options, frozen};
use faprompt_edge::train::nn::Maker;
use faprompt_edge::train::nn::layers::{tensor, unit, values};
use faprompt_edge::train::prompts::Prompts;
use faprompt_edge::train::random::{self, Sizes};
use instant_clip_tokenizer::Tokenizer;
use ndarray::Axis;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const TRAIN: &str = env!("CARGO_BIN_EXE_faprompt-train");

/// A small rendered data set and a small random encoder, made once for all tests.
struct Ground {
    folder: tempfile::TempDir,
}

impl Ground {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    fn data(&self) -> PathBuf {
        self.path("data")
    }
    fn clip(&self) -> PathBuf {
        self.path("clip/clip.safetensors")
    }
    /// `fit` on the data, into `out`.
    fn fit(&self, out: &Path, more: &[&str]) -> Output {
        let mut arguments = vec![
            "fit",
            s(&self.data()).leak(),
            "--clip",
            s(&self.clip()).leak(),
        ];
        arguments.extend([
            "--cache",
            s(&self.path("cache")).leak(),
            "--out",
            s(out).leak(),
        ]);
        arguments.extend(more);
        train(&arguments)
    }
}

fn s(path: &Path) -> String {
    path.to_str().unwrap().to_string()
}

fn train(arguments: &[&str]) -> Output {
    Command::new(TRAIN).args(arguments).output().unwrap()
}

fn good(output: Output) -> String {
    let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Asserts the exit code and that the message says `words`.
fn refused(output: Output, code: i32, words: &[&str]) {
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{message}");
    for word in words {
        assert!(message.contains(word), "no `{word}` in: {message}");
    }
}

fn ground() -> &'static Ground {
    static GROUND: OnceLock<Ground> = OnceLock::new();
    GROUND.get_or_init(|| {
        let ground = Ground {
            folder: tempfile::tempdir().unwrap(),
        };
        let data = s(&ground.data());
        good(train(&[
            "render", "--out", &data, "--scenes", "6", "--side", "64",
        ]));
        let sizes = Sizes {
            vision: (64, 2, 16, 64),
            text: (64, 2),
            tokens: (5, 2, 10),
            prior: (10, 40),
            deep: (1, 4),
            words: (3, 4),
        };
        let (clip, _) = random::write(&sizes, 111, &ground.path("random")).unwrap();
        let mut clip = Clip::load(&clip).unwrap();
        // As if it had been trained: what is fitted to it may then be exported as trained.
        (clip.untrained, clip.vv_layers) = (false, Some(1));
        std::fs::create_dir(ground.path("clip")).unwrap();
        clip.save(&ground.clip()).unwrap();
        ground
    })
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Asserts that two files are equal, without printing megabytes.
fn same(a: &Path, b: &Path) {
    assert!(
        bytes(a) == bytes(b),
        "{} is not {}",
        a.display(),
        b.display()
    );
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&bytes(path)).unwrap()
}

#[test]
fn rendered_sets_are_the_same_for_a_seed_and_have_what_they_say() {
    let ground = ground();
    let folder = tempfile::tempdir().unwrap();
    let again = folder.path().join("again");
    good(train(&[
        "render",
        "--out",
        &s(&again),
        "--scenes",
        "6",
        "--side",
        "64",
    ]));
    let meta = json(&ground.data().join("meta.json"));
    assert_eq!(meta, json(&again.join("meta.json")));
    let (mut good_ones, mut bad_ones) = (0, 0);
    for record in meta["test"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|c| c.as_array().unwrap())
    {
        let name = record["img_path"].as_str().unwrap();
        same(&ground.data().join(name), &again.join(name));
        if record["anomaly"] == 0 {
            good_ones += 1;
            continue;
        }
        bad_ones += 1;
        let mask = image::open(ground.data().join(record["mask_path"].as_str().unwrap())).unwrap();
        assert!(mask.to_luma8().contains(&255), "{name} has an empty mask");
    }
    assert_eq!((good_ones, bad_ones), (6, 6));
}

/// Prompts that begin with words score as the words themselves do: deep prompts and prior change nothing.
#[test]
fn prompts_can_begin_with_words() {
    let ground = ground();
    let folder = tempfile::tempdir().unwrap();
    let still = ["--epochs", "1", "--lr", "1e-12", "--start", "words"];
    good(ground.fit(folder.path(), &still));
    let clip = Clip::load(&ground.clip()).unwrap();
    let prompts = Prompts::load(&folder.path().join("prompts.safetensors"), &clip).unwrap();
    let device = Device::flex();
    let options = Options::paper(&clip);
    let frozen = frozen(&clip, &prompts, &options, &device);
    let learner = Learner::new(&prompts, &options.variant, &mut Maker::new(&device, false));
    let own = values(&learner.base(&frozen).normal);
    let tokenizer = Tokenizer::new();
    let mut tokens = vec![tokenizer.start_of_text()];
    tokenizer.encode("a cropped photo of a object.", &mut tokens);
    tokens.push(tokenizer.end_of_text());
    let rows: Vec<usize> = tokens.iter().map(|t| t.to_u16().into()).collect();
    let table = clip.text.embedding.as_ref().unwrap();
    let rows = tensor::<2, _>(&table.select(Axis(0), &rows), &device).unsqueeze_dim(0);
    let plain = values(&unit(frozen.text.encode(rows, &[tokens.len() - 1], &[])));
    for (a, b) in own.iter().zip(&plain) {
        assert!((a - b).abs() < 1e-4, "{a} is not {b}");
    }
    assert!(prompts.fc2.weight.iter().all(|w| w.abs() < 1e-6));
}

#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    let ground = ground();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut child = Command::new(TRAIN)
        .args(["fit", &s(&ground.data()), "--clip", &s(&ground.clip())])
        .args(["--cache", &s(&ground.path("cache")), "--epochs", "100000"])
        .args(["--out", &s(&out)])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let prompts = out.join("prompts.safetensors");
    while !prompts.is_file() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // The shell's own: not every system has the program.
    let kill = Command::new("sh")
        .args(["-c", &format!("kill -INT {}", child.id())])
        .status()
        .unwrap();
    assert!(kill.success());
    refused(
        child.wait_with_output().unwrap(),
        35,
        &["prompts.safetensors", "--resume"],
    );
    Prompts::load(&prompts, &Clip::load(&ground.clip()).unwrap()).unwrap();
}

#[test]
fn another_method_goes_on_to_the_very_same_numbers_and_only_with_the_same_options() {
    let ground = ground();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let fit = |name: &str, more: &[&str]| {
        let usual = ["--method", "anomalyclip", "--e", "6"];
        ground.fit(&at(name), &[&usual[..], more].concat())
    };
    good(fit("whole", &["--epochs", "2"]));
    let first = fit("pieces", &["--epochs", "2", "--stop-after", "1"]);
    refused(first, 35, &["--resume"]);
    for (more, said) in [
        (["--deep-length", "3"], "deep_length: there 4, here 3"),
        (["--deep-blocks", "0"], "deep_blocks: there 1, here 0"),
        (["--activation", "gelu"], "activation: there"),
        (["--epsilon", "0.001"], "epsilon: there"),
        (["--mean", "0,0,0"], "mean: there"),
        (["--positions", "bicubic"], "positions: there"),
        (
            ["--temperature", "0.5"],
            "temperature: there null, here 0.5",
        ),
    ] {
        let out = fit(
            "pieces",
            &[&["--epochs", "2", "--resume"][..], &more].concat(),
        );
        refused(out, 32, &[said]);
    }
    good(fit("pieces", &["--epochs", "2", "--resume"]));
    let learned = |name: &str| at(name).join("learned.safetensors");
    same(&learned("whole"), &learned("pieces"));
    let export = |more: &[&str]| {
        let (clip, learned, out) = (s(&ground.clip()), s(&learned("whole")), s(&at("a.bundle")));
        let usual = [
            "export",
            "--method",
            "anomalyclip",
            "--clip",
            &clip,
            "--prompts",
            &learned,
        ];
        train(&[&usual[..], &["--out", &out], more].concat())
    };
    refused(
        export(&["--activation", "gelu"]),
        32,
        &["activation: there"],
    );
    refused(
        export(&["--positions", "bicubic"]),
        32,
        &["--positions: it was"],
    );
    good(export(&[]));
    let shorter = fit("whole", &["--epochs", "1", "--resume"]);
    refused(shorter, 32, &["--epochs: there 2 epochs, here 1"]);
    // The learning rate of coop follows the number of epochs.
    let coop = |more: &[&str]| {
        let usual = ["--method", "coop", "--e", "3", "--class", "object"];
        ground.fit(&at("coop"), &[&usual[..], more].concat())
    };
    good(coop(&["--epochs", "1"]));
    let longer = coop(&["--epochs", "2", "--resume"]);
    refused(longer, 32, &["epochs: there 1, here 2"]);
    let long = ["--method", "coop", "--class", "object", "--e", "90"];
    refused(ground.fit(&at("long"), &long), 32, &["--e: 90", "at most"]);
}

#[test]
fn fit_is_reproducible_resumes_and_its_bundle_says_what_the_checkpoint_says() {
    let ground = ground();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let said = good(ground.fit(&at("a"), &["--epochs", "3"]));
    for term in [
        "epoch  3",
        "segmentation",
        "orthogonal",
        "prior",
        "images/s",
    ] {
        assert!(said.contains(term), "no `{term}` in {said}");
    }
    // One epoch, then the other two.
    let first = ground.fit(&at("b"), &["--epochs", "3", "--stop-after", "1"]);
    refused(first, 35, &["epoch 1", "--resume"]);
    refused(ground.fit(&at("b"), &["--epochs", "3"]), 32, &["--resume"]);
    good(ground.fit(&at("b"), &["--epochs", "3", "--resume"]));
    let cache = ground.path("cache");
    let prompts = at("a").join("prompts.safetensors");
    same(&prompts, &at("b").join("prompts.safetensors"));
    refused(
        ground.fit(&at("a"), &["--epochs", "3", "--resume", "--lr", "0.5"]),
        32,
        &["other options"],
    );
    // Three epochs are no run of two.
    refused(
        ground.fit(&at("a"), &["--epochs", "2", "--resume"]),
        32,
        &["--epochs: there 3 epochs, here 2"],
    );
    let state = at("a").join("epoch-3.optimizer");
    let whole = bytes(&state);
    std::fs::write(&state, &whole[..whole.len() / 2]).unwrap();
    refused(
        ground.fit(&at("a"), &["--epochs", "3", "--resume"]),
        33,
        &["epoch-3.optimizer: the optimizer's state", "begin anew"],
    );
    std::fs::write(&state, &whole).unwrap();
    // Tokens that leave no room for words are refused before anything is encoded.
    for more in [["--e", "90"], ["--ea", "90"], ["--deep-length", "0"]] {
        let said = ["at most", "at least 1"][usize::from(more[0] == "--deep-length")];
        refused(ground.fit(&at("long"), &more), 32, &[more[0], said]);
        assert!(!at("long").exists());
    }
    // The same folder, but not the same pictures.
    let some = ground.data().join("some.csv");
    let rows =
        "image,mask,label\nimages/000001-bad.png,masks/000001.png,1\nimages/000001-good.png,,0\n";
    std::fs::write(&some, rows).unwrap();
    let (clip, out) = (s(&ground.clip()), s(&at("a")));
    let other = ["fit", &s(&some), "--clip", &clip, "--out", &out];
    let other = [&other[..], &["--epochs", "3", "--resume"]].concat();
    refused(train(&other), 32, &["other pictures or masks"]);

    let bundle = at("own.bundle");
    good(train(&[
        "export",
        "--clip",
        &s(&ground.clip()),
        "--prompts",
        &s(&prompts),
        "--out",
        &s(&bundle),
    ]));
    assert!(
        Bundle::open(&bundle, &Keys::default())
            .unwrap()
            .manifest()
            .trained
    );
    let (device, trainer) = (at("device.json"), at("trainer.json"));
    let html = at("page.html");
    good(train(&[
        "evaluate",
        "--bundle",
        &s(&bundle),
        &s(&ground.data()),
        "--json",
        &s(&device),
        "--html",
        &s(&html),
    ]));
    good(train(&[
        "evaluate",
        "--clip",
        &s(&ground.clip()),
        "--prompts",
        &s(&prompts),
        "--cache",
        &s(&cache),
        &s(&ground.data()),
        "--json",
        &s(&trainer),
    ]));
    let (device, trainer) = (json(&device), json(&trainer));
    let trivial = &trainer[0]["mean"]["trivial_auroc"];
    assert!(trivial[0].is_f64());
    assert_eq!(trivial, &device[0]["mean"]["trivial_auroc"]);
    let scores = |j: &Value| -> Vec<f64> {
        let pictures = j[0]["pictures"].as_array().unwrap();
        pictures
            .iter()
            .map(|p| p["score"].as_f64().unwrap())
            .collect()
    };
    // f16 features in the cache, f32 on the device.
    for (a, b) in scores(&device).iter().zip(scores(&trainer)) {
        assert!((a - b).abs() < 5e-3, "the device says {a}, the trainer {b}");
    }
    let page = String::from_utf8(bytes(&html)).unwrap();
    assert!(page.contains("<svg") && page.contains("data:image/jpeg;base64,"));
    assert!(!page.contains("<script") && !page.contains("http://") || page.contains("www.w3.org"));
}

#[test]
fn variants_learn_and_only_the_devices_own_are_exported() {
    let ground = ground();
    let folder = tempfile::tempdir().unwrap();
    let out = s(&folder.path().join("ablation"));
    let (data, cache) = (s(&ground.data()), s(&ground.path("cache")));
    let clip = s(&ground.clip());
    let arguments = [
        "ablate",
        "--train",
        &data,
        "--test",
        &data,
        "--clip",
        &clip,
        "--cache",
        &cache,
        "--out",
        &out,
        "--epochs",
        "1",
        "--k",
        "2",
        "--variants",
        "all",
        "m=1",
    ];
    let table = good(train(&arguments));
    for label in [
        "baseline (AnomalyCLIP)",
        "+ CAP without L_orth",
        "FAPrompt (CAP + DAP)",
        "FAPrompt, M = 1",
        "2 seeds",
    ] {
        assert!(table.contains(label), "no `{label}` in {table}");
    }
    // What is there is not learned again, and says the same.
    let again = good(train(&arguments));
    assert!(!again.contains("epoch"), "{again}");
    let figures = |t: &str| t[t.find("mean over test sets").unwrap()..].to_string();
    assert_eq!(figures(&table), figures(&again));

    let export = |variant: &str| {
        let prompts = Path::new(&out).join(variant).join("prompts.safetensors");
        train(&[
            "export",
            "--clip",
            &clip,
            "--prompts",
            &s(&prompts),
            "--out",
            &s(&folder.path().join("v.bundle")),
        ])
    };
    refused(export("best-match"), 32, &["aggregation"]);
    refused(export("image-token"), 32, &["image token"]);
    refused(export("baseline"), 32, &["tokens of their own"]);
    good(export("cap"));
    good(export("full"));
}

#[test]
fn bad_input_is_named_and_nothing_is_lost() {
    let ground = ground();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let data = at("data");
    let copy = || {
        let _ = std::fs::remove_dir_all(&data);
        for sub in ["images", "masks"] {
            std::fs::create_dir_all(data.join(sub)).unwrap();
            for file in std::fs::read_dir(ground.data().join(sub)).unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), data.join(sub).join(file.file_name())).unwrap();
            }
        }
        std::fs::copy(ground.data().join("meta.json"), data.join("meta.json")).unwrap();
    };
    let fit = |more: &[&str]| {
        let mut a = vec!["fit", s(&data).leak(), "--clip", s(&ground.clip()).leak()];
        a.extend([
            "--cache",
            s(&at("cache")).leak(),
            "--out",
            s(&at("out")).leak(),
        ]);
        a.extend(more);
        train(&a)
    };
    copy();
    std::fs::remove_file(data.join("masks/000002.png")).unwrap();
    refused(fit(&[]), 33, &["masks/000002.png", "does not exist"]);
    copy();
    std::fs::write(data.join("images/000003-bad.png"), b"no picture").unwrap();
    refused(fit(&[]), 33, &["000003-bad.png"]);
    copy();
    std::fs::write(data.join("masks/000001.png"), b"no mask").unwrap();
    refused(fit(&[]), 33, &["masks/000001.png"]);
    copy();
    // An abnormal picture without any mask cannot teach where the defect is: it is left out, aloud.
    let meta = String::from_utf8(bytes(&data.join("meta.json"))).unwrap();
    std::fs::write(data.join("meta.json"), meta.replace("masks/000004.png", "")).unwrap();
    let left_out = fit(&[]);
    assert_eq!(left_out.status.code(), Some(0));
    let said = String::from_utf8(left_out.stderr).unwrap();
    assert!(
        said.contains("1 abnormal pictures") && said.contains("000004-bad.png"),
        "{said}"
    );
    std::fs::remove_dir_all(at("out")).unwrap();
    copy();
    refused(fit(&["--m", "17"]), 32, &["--m 17", "16 patches"]);
    refused(fit(&["--deep-length", "9"]), 32, &["--deep-length 9"]);
    refused(fit(&["--image-size", "50"]), 32, &["50", "16"]);
    refused(fit(&["--lr", "0"]), 32, &["--lr"]);
    refused(fit(&["--device", "cuda"]), 32, &["cuda"]);
    // A learning rate that blows up: the epoch before is kept, the message says where it is.
    let lost = fit(&["--lr", "1e30"]);
    let said = String::from_utf8_lossy(&lost.stderr).into_owned();
    assert!(
        !said.contains("none") && !said.contains("--resume"),
        "{said}"
    );
    refused(lost, 34, &["is NaN or infinite: begin anew", "--lr"]);
    // What can be learned can be exported: the weights have two blocks, and a bundle at most 4096 px.
    for (option, value, said) in [
        ("--vv-layers", "3", "1 to 2"),
        ("--vv-layers", "0", "1 to 2"),
        ("--image-size", "4112", "at most 4096"),
    ] {
        refused(fit(&[option, value]), 32, &[option, value, said]);
        let other = ["--method", "anomalyclip", "--e", "6", option, value];
        refused(fit(&other), 32, &[option, value, said]);
    }
    refused(
        fit(&["--stop-after", "0"]),
        2,
        &["--stop-after", "from 1 on"],
    );
    // All pictures that cannot be read are named at once, by every method.
    for name in ["images/000001-good.png", "images/000003-bad.png"] {
        std::fs::write(data.join(name), b"no picture").unwrap();
    }
    let _ = std::fs::remove_dir_all(at("out"));
    let both = [
        "2 pictures cannot be read",
        "000001-good.png",
        "000003-bad.png",
    ];
    refused(fit(&[]), 33, &both);
    refused(fit(&["--method", "heads"]), 33, &both);
    copy();
    let bad = "images/000001-bad.png,masks/000001.png,1\n";
    std::fs::write(data.join("bad.csv"), format!("image,mask,label\n{bad}")).unwrap();
    for method in ["faprompt", "anomalyclip", "heads"] {
        let (set, clip, out) = (
            s(&data.join("bad.csv")),
            s(&ground.clip()),
            s(&at("one-sided")),
        );
        let usual = ["fit", &set, "--clip", &clip, "--out", &out];
        let cache = s(&at("cache"));
        let more = ["--method", method, "--cache", &cache];
        refused(
            train(&[&usual[..], &more].concat()),
            32,
            &["no good picture"],
        );
    }
    let clip = s(&ground.clip());
    let (set, out) = (s(&data), s(&at("twice")));
    let twice = ["fit", &set, &set, "--clip", &clip, "--out", &out];
    refused(train(&twice), 32, &["is named twice"]);
    // Weights of another shape.
    let wrong = s(&common::golden("faprompt-tiny/prompt_learner.safetensors"));
    refused(
        train(&[
            "export",
            "--clip",
            &s(&ground.clip()),
            "--prompts",
            &wrong,
            "--out",
            &s(&at("x.bundle")),
        ]),
        31,
        &["ctx_pos", "64"],
    );
    refused(
        train(&[
            "evaluate",
            "--clip",
            &s(&ground.clip()),
            "--prompts",
            &wrong,
            &s(&data),
        ]),
        31,
        &["ctx_pos"],
    );
}

/// Files may not grow beyond a few kilobytes: a disk that is full while features or prompts are written.
#[test]
fn a_full_disk_is_an_error_and_what_was_whole_stays_whole() {
    let ground = ground();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    good(ground.fit(&out, &["--epochs", "1"]));
    let before = bytes(&out.join("prompts.safetensors"));
    let command = format!(
        "trap '' XFSZ; ulimit -f 16; exec {TRAIN} fit {} --clip {} --cache {} --out {} --epochs 1",
        ground.data().display(),
        ground.clip().display(),
        folder.path().join("cache").display(),
        folder.path().join("new").display(),
    );
    let limited = Command::new("sh").args(["-c", &command]).output().unwrap();
    refused(limited, 5, &["cannot be written"]);
    let halves = walkdir::WalkDir::new(folder.path())
        .into_iter()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().ends_with(".tmp"))
        .count();
    assert_eq!(halves, 0, "half-written files stay behind");
    assert!(before == bytes(&out.join("prompts.safetensors")));
    // With room again the same command finishes.
    good(ground.fit(&folder.path().join("new"), &["--epochs", "1"]));
}

/// Two runs of different kinds in one folder would overwrite each other's optimizer; switches of FAPrompt are not
/// ignored by other methods.
#[test]
fn methods_keep_out_of_each_others_folders_and_switches() {
    let ground = ground();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let stopped = ["--epochs", "2", "--stop-after", "1"];
    let heads = ["--method", "heads"];
    refused(ground.fit(&at("prompts"), &stopped), 35, &["--resume"]);
    let second = ground.fit(&at("prompts"), &[&heads[..], &stopped].concat());
    refused(
        second,
        32,
        &["prompts.safetensors: this folder", "another --out"],
    );
    good(ground.fit(&at("prompts"), &["--epochs", "2", "--resume"]));
    let said = ground.fit(&at("heads"), &[&heads[..], &stopped].concat());
    refused(said, 35, &["--resume"]);
    for more in [&["--epochs", "2"][..], &["--epochs", "2", "--resume"]] {
        let words = ["learned.safetensors: this folder", "another --out"];
        refused(ground.fit(&at("heads"), more), 32, &words);
        let other = [&["--method", "anomalyclip", "--e", "6"][..], more].concat();
        let words = ["learned by --method heads", "--method anomalyclip is asked"];
        refused(ground.fit(&at("heads"), &other), 31, &words);
    }
    // As export reads them, too.
    let (clip, out) = (s(&ground.clip()), s(&at("x.bundle")));
    let learned = s(&at("prompts").join("prompts.safetensors"));
    let export = [
        "export",
        "--clip",
        &clip,
        "--prompts",
        &learned,
        "--out",
        &out,
    ];
    let as_heads = [&export[..], &heads].concat();
    refused(train(&as_heads), 31, &["learned by --method faprompt"]);
    // A graph that there is not, and one that cannot be written, are refused before the bundle is made.
    let (graph, nowhere) = (s(&at("x.onnx")), s(&at("nowhere/x.onnx")));
    let other = [&export[..], &heads, &["--onnx", &graph]].concat();
    refused(train(&other), 32, &["--onnx", "no heads"]);
    let absent = [&export[..], &["--onnx", &nowhere]].concat();
    refused(train(&absent), 5, &["nowhere/x.onnx"]);
    assert!(!at("x.bundle").exists());
    let idle: &[(&str, &[&str])] = &[
        ("anomalyclip", &["--k", "10"]),
        ("anomalyclip", &["--m", "3"]),
        ("anomalyclip", &["--ea", "3"]),
        ("anomalyclip", &["--start", "random"]),
        ("anomalyclip", &["--selection", "upstream"]),
        ("anomalyclip", &["--score-rule", "paper"]),
        ("anomalyclip", &["--aggregation", "mean"]),
        ("anomalyclip", &["--prior", "off"]),
        ("anomalyclip", &["--no-prior-loss"]),
        ("anomalyclip", &["--no-orthogonal-loss"]),
        ("anomalyclip", &["--own-tokens"]),
        ("heads", &["--e", "5"]),
        ("coop", &["--deep-blocks", "1"]),
        ("april-gan", &["--deep-length", "2"]),
        ("dapo", &["--vv-layers", "1"]),
    ];
    for (method, more) in idle {
        let all = [&["--method", *method][..], *more].concat();
        let said = [more[0], "means nothing to --method", *method];
        refused(ground.fit(&at("idle"), &all), 32, &said);
    }
    assert!(!at("idle").exists());
    // What `export` needs of the run again is said.
    let one = ["--epochs", "1", "--temperature", "0.5", "--e", "6"];
    let coop = [&["--method", "coop", "--class", "metal nut"][..], &one].concat();
    let said = good(ground.fit(&at("coop"), &coop));
    assert!(
        said.contains("--class \"metal nut\" --temperature 0.5 --prompts"),
        "{said}"
    );
}

/// A checkpoint that was learned otherwise than by default: `tables` measures what `export` makes of it.
#[test]
fn tables_measure_what_export_makes() {
    let ground = ground();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let otherwise = [
        "--selection",
        "upstream",
        "--score-rule",
        "paper",
        "--vv-layers",
        "2",
    ];
    let more = [
        &otherwise[..],
        &["--image-size", "48", "--m", "3", "--epochs", "1"],
    ]
    .concat();
    good(ground.fit(&at("o"), &more));
    let set = ground.data().join("two.csv");
    let row = |kind: &str, mask: &str, label: u8| {
        format!("images/000001-{kind}.png,{mask},object,{label}\n")
    };
    let rows = row("bad", "masks/000001.png", 1) + &row("good", "", 0);
    std::fs::write(&set, format!("image,mask,class,label\n{rows}")).unwrap();
    let (clip, prompts) = (s(&ground.clip()), s(&at("o").join("prompts.safetensors")));
    let (bundle, report) = (s(&at("o.bundle")), s(&at("o.json")));
    good(train(&[
        "export",
        "--clip",
        &clip,
        "--prompts",
        &prompts,
        "--out",
        &bundle,
    ]));
    good(train(&[
        "evaluate",
        "--bundle",
        &bundle,
        &s(&set),
        "--json",
        &report,
    ]));
    let (out, named) = (s(&at("tables")), format!("two={}", s(&set)));
    let tables = |more: &[&str]| {
        let usual = ["tables", "--clip", &clip, &named, "--out", &out];
        train(&[&usual[..], more].concat())
    };
    let learned = format!("faprompt={prompts}");
    // What is wrong with a file or a name costs no hours of judging other methods.
    let others = format!("heads={prompts}");
    refused(
        tables(&["--learned", &others]),
        31,
        &["learned by --method faprompt"],
    );
    refused(tables(&[&named]), 32, &["two sets are called two"]);
    assert!(!at("tables/two.clip.json").exists());
    good(tables(&["--learned", &learned]));
    let cell = json(&at("tables/two.faprompt.json"));
    let evaluated = json(&at("o.json"));
    assert!(evaluated[0]["mean"]["pixel_auroc"].is_f64());
    assert_eq!(cell["figures"], evaluated[0]["mean"]);
    let made_from = cell["made_from"].to_string();
    assert!(
        made_from.contains("Some(48) Some(2) Upstream Paper"),
        "{made_from}"
    );
}

/// What `random` writes for a method is exported without being told how it was made.
#[test]
fn random_numbers_of_a_method_are_exported_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let out = s(&at("random"));
    for method in ["winclip", "memory", "filo", "blip"] {
        let arguments = [
            "random", "--model", "tiny", "--method", method, "--out", &out,
        ];
        refused(train(&arguments), 32, &["--method", method]);
        assert!(!at("random").exists());
    }
    good(train(&[
        "random", "--model", "tiny", "--method", "heads", "--out", &out,
    ]));
    let (clip, heads) = (
        s(&at("random/clip.safetensors")),
        s(&at("random/heads.safetensors")),
    );
    let bundle = s(&at("heads.bundle"));
    let export = [
        "export",
        "--method",
        "heads",
        "--clip",
        &clip,
        "--prompts",
        &heads,
    ];
    good(train(&[&export[..], &["--out", &bundle]].concat()));
    let opened = Bundle::open(&at("heads.bundle"), &Keys::default()).unwrap();
    assert!(!opened.manifest().trained);
}
