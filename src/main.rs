//! The device program: arguments to a command, its result to an exit code, and nothing else.

mod cli;

fn main() -> std::process::ExitCode {
    // What is written is limited further: to warnings here, to the parameter `log_level` by a station.
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("debug"))
        .format(faprompt_edge::report::log_line)
        .init();
    if std::env::var_os("RUST_LOG").is_none() {
        log::set_max_level(log::LevelFilter::Warn);
    }
    cli::main().into()
}
