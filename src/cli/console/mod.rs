//! `faprompt-edge console`: the command set for a person.
//!
//! A line goes to the station as it is typed; what comes back is shown as it comes. History, completion
//! and the live view are the console's own.

mod link;
mod live;
mod words;

use clap::Args;
use faprompt_edge::control::command::Verb;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::report::{say, warn};
use link::{Link, News};
use ratatui::crossterm::event::DisableBracketedPaste;
use ratatui::crossterm::execute;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor, ExternalPrinter};
use serialport::{SerialPortInfo, SerialPortType};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use words::{OWN, Words};

const PROMPT: &str = "faprompt> ";

/// How often the printer of news looks whether it is wanted.
const POLL: Duration = Duration::from_millis(50);

/// Lines of history.
const HISTORY: usize = 500;

#[derive(Args)]
pub struct Console {
    /// Serial port, such as /dev/ttyUSB0 [default: the only one, or the only USB adapter]
    #[arg(long)]
    port: Option<String>,
    /// Its speed
    #[arg(long, default_value_t = 115_200, value_parser = clap::value_parser!(u32).range(300..=4_000_000))]
    baud: u32,
}

/// Why the console stopped.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// There is no port to choose, or more than one.
    #[error("{0}")]
    Choice(String),
    /// The port cannot be opened.
    #[error("{port}: {source}")]
    Open {
        port: String,
        source: serialport::Error,
    },
    /// The terminal cannot be used.
    #[error("terminal: {0}")]
    Terminal(String),
}

impl ConsoleError {
    pub fn exit_code(&self) -> ExitCode {
        match self {
            ConsoleError::Choice(_) => ExitCode::Usage,
            ConsoleError::Open { .. } => ExitCode::Port,
            ConsoleError::Terminal(_) => ExitCode::Internal,
        }
    }
}

fn terminal(error: impl std::fmt::Display) -> ConsoleError {
    ConsoleError::Terminal(error.to_string())
}

/// The only port, or the only USB adapter: boards list ports that nothing is wired to.
fn choose(ports: Vec<SerialPortInfo>) -> Result<String, ConsoleError> {
    let is_usb = |p: &&SerialPortInfo| matches!(p.port_type, SerialPortType::UsbPort(_));
    let usb: Vec<_> = ports.iter().filter(is_usb).collect();
    match (&ports[..], &usb[..]) {
        ([only], _) => Ok(only.port_name.clone()),
        (_, [only]) => Ok(only.port_name.clone()),
        ([], _) => Err(ConsoleError::Choice(
            "there is no serial port; plug the adapter in, or name one with --port".into(),
        )),
        _ => {
            let described = ports.iter().map(|p| match &p.port_type {
                SerialPortType::UsbPort(usb) => {
                    format!(
                        "{} ({})",
                        p.port_name,
                        usb.product.as_deref().unwrap_or("USB")
                    )
                }
                _ => p.port_name.clone(),
            });
            let all: Vec<_> = described.collect();
            Err(ConsoleError::Choice(format!(
                "which port? --port one of: {}",
                all.join(", ")
            )))
        }
    }
}

/// Where lines are kept for the next time.
fn history() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state"));
    let folder = state.or_else(home)?.join("faprompt-edge");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}

/// Whether a line holds a password.
fn is_secret(line: &str) -> bool {
    let words = line.split([' ', '\t', ',', '=']).filter(|w| !w.is_empty());
    let mut words = words.skip_while(|w| w.starts_with('#'));
    let login = words.next().and_then(Verb::named) == Some(Verb::Login);
    login || line.to_ascii_lowercase().contains("password")
}

/// The terminal is given back as it was found when a signal ends the program; otherwise editor and live
/// view do it.
fn give_back_on_signals() -> Result<(), ConsoleError> {
    let before = tcgetattr(std::io::stdin()).ok();
    ctrlc::set_handler(move || {
        live::give_back();
        if let Some(before) = &before {
            let _ = execute!(std::io::stdout(), DisableBracketedPaste);
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
        std::process::exit(ExitCode::Good as i32);
    })
    .map_err(terminal)
}

/// The thread that prints news above the prompt, except while the live view takes them.
struct Printer {
    news: Arc<Mutex<Receiver<News>>>,
    /// The live view wants them.
    taken: Arc<AtomicBool>,
}

impl Printer {
    fn start(news: Receiver<News>, mut print: impl FnMut(String) + Send + 'static) -> Printer {
        let printer = Printer {
            news: Arc::new(Mutex::new(news)),
            taken: Arc::default(),
        };
        let (news, taken) = (Arc::clone(&printer.news), Arc::clone(&printer.taken));
        std::thread::spawn(move || {
            loop {
                if taken.load(Ordering::Relaxed) {
                    std::thread::sleep(POLL);
                    continue;
                }
                let next = news
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .recv_timeout(POLL);
                match next {
                    Ok(News::Line(line)) => print(line),
                    Ok(News::Lost(why)) => print(format!("adapter gone: {why}; waiting for it")),
                    Ok(News::Back) => print("adapter back".into()),
                    Err(RecvTimeoutError::Timeout) => (),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        printer
    }

    fn lend<T>(&self, work: impl FnOnce(&Receiver<News>) -> T) -> T {
        self.taken.store(true, Ordering::Relaxed);
        let result = work(&self.news.lock().unwrap_or_else(PoisonError::into_inner));
        self.taken.store(false, Ordering::Relaxed);
        result
    }
}

impl Console {
    pub fn run(self) -> Result<ExitCode, crate::cli::CliError> {
        Ok(self.talk()?)
    }

    fn talk(self) -> Result<ExitCode, ConsoleError> {
        let port = match self.port {
            Some(port) => port,
            None => {
                let ports = serialport::available_ports();
                choose(ports.map_err(|e| ConsoleError::Choice(e.to_string()))?)?
            }
        };
        let is_file = |m: std::fs::Metadata| m.is_file() || m.is_dir();
        if std::fs::metadata(&port).is_ok_and(is_file) {
            let what = "no serial port, such as /dev/ttyUSB0";
            let source = serialport::Error::new(serialport::ErrorKind::InvalidInput, what);
            return Err(ConsoleError::Open { port, source });
        }
        give_back_on_signals()?;
        let (unasked, news) = channel();
        let open = Link::open(&port, self.baud, unasked);
        let mut link = open.map_err(|source| ConsoleError::Open {
            port: port.clone(),
            source,
        })?;
        let config = Config::builder()
            .max_history_size(HISTORY)
            .map_err(terminal)?;
        let config = config
            .completion_type(rustyline::CompletionType::List)
            .build();
        let mut editor = Editor::<Words, FileHistory>::with_config(config).map_err(terminal)?;
        editor.set_helper(Some(Words));
        let file = history();
        // The first time there is none.
        let _ = file.as_ref().map(|f| editor.load_history(f));
        let is_person = std::io::stdin().is_terminal();
        // Over a terminal whose cursor cannot be moved (TERM=dumb), or whose output goes elsewhere, nothing is printed above
        // the prompt: news are lines like any other there.
        let above = is_person.then(|| editor.create_external_printer());
        let above = above.and_then(Result::ok);
        let draws = std::io::stdout().is_terminal() && (above.is_some() || !is_person);
        let printer = match above {
            Some(mut above) => {
                Printer::start(news, move |line| _ = above.print(format!("{line}\n")))
            }
            None => Printer::start(news, say),
        };
        let title = format!("{port} {} baud", self.baud);
        let (mut unanswered, mut refused) = (false, false);
        match link.ask("IDN") {
            Ok(answer) => say(format_args!("{title}: {}", answer.join("\n"))),
            Err(e) => {
                unanswered = true;
                warn(format_args!(
                    "{title}: {e}; is that its speed, and does it speak the command set on this port?"
                ));
            }
        }
        say(OWN.map(|(word, help)| format!("{word}: {help}")).join("; ")
            + "; HELP: the station's commands");
        let result = loop {
            let line = match editor.readline(PROMPT) {
                Ok(line) => line,
                Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => continue,
                Err(ReadlineError::Eof) => break Ok(ExitCode::Good),
                Err(e) => break Err(terminal(e)),
            };
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            if !is_secret(line) {
                // A line that repeats the last one is not added; that is no error.
                let _ = editor.add_history_entry(line);
            }
            match line.to_ascii_uppercase().as_str() {
                "QUIT" | "EXIT" => break Ok(ExitCode::Good),
                "LIVE" if !draws => {
                    warn(
                        "LIVE needs a terminal that it can draw on; here GET, STATUS and COUNTERS say it in lines",
                    );
                }
                "LIVE" => printer
                    .lend(|news| live::show(title.clone(), &mut link, news))
                    .map_err(terminal)?,
                _ => match link.ask(line) {
                    Ok(answer) => {
                        refused |= answer.first().is_some_and(|first| first.starts_with("ER,"));
                        answer.iter().for_each(say);
                    }
                    Err(e) => {
                        unanswered = true;
                        warn(e);
                    }
                },
            }
        };
        // A person has seen it; a script sees the exit code only.
        let result = result.map(|code| match (is_person, unanswered, refused) {
            (false, true, _) => ExitCode::Port,
            (false, false, true) => ExitCode::Refused,
            _ => code,
        });
        // Nothing depends on it.
        let _ = file.map(|f| editor.save_history(&f));
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serialport::UsbPortInfo;

    fn usb(name: &str) -> SerialPortInfo {
        let mut port = plain(name);
        port.port_type = SerialPortType::UsbPort(UsbPortInfo {
            vid: 0x0403,
            pid: 0x6001,
            serial_number: None,
            manufacturer: None,
            product: Some("FT232R USB UART".into()),
        });
        port
    }

    fn plain(name: &str) -> SerialPortInfo {
        SerialPortInfo {
            port_name: name.into(),
            port_type: SerialPortType::Unknown,
        }
    }

    #[test]
    fn the_only_port_is_taken_and_more_are_listed() {
        let choice = |ports: &[SerialPortInfo]| choose(ports.to_vec()).map_err(|e| e.to_string());
        assert_eq!(choice(&[plain("/dev/ttyS0")]), Ok("/dev/ttyS0".into()));
        let mixed = [
            plain("/dev/ttyS0"),
            usb("/dev/ttyUSB0"),
            plain("/dev/ttyS1"),
        ];
        assert_eq!(choice(&mixed), Ok("/dev/ttyUSB0".into()));
        assert!(choice(&[]).unwrap_err().contains("no serial port"));
        let two = choice(&[usb("/dev/ttyUSB0"), usb("/dev/ttyUSB1")]).unwrap_err();
        assert!(
            two.contains("/dev/ttyUSB0 (FT232R USB UART), /dev/ttyUSB1"),
            "{two}"
        );
    }

    #[test]
    fn passwords_are_not_kept() {
        for secret in [
            "LOGIN engineer x",
            "#3 login,operator,x",
            "set engineer_password x",
            " Login=x",
        ] {
            assert!(is_secret(secret), "{secret}");
        }
        for plain in ["SET threshold 0.5", "LOGOUT", "HELP LOGIN"] {
            assert!(!is_secret(plain), "{plain}");
        }
    }
}
