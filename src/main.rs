//! The device program: arguments to a command, its result to an exit code, and nothing else.

mod cli;

fn main() -> std::process::ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    cli::main().into()
}
