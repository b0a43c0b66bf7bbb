//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::retention::RetentionArgs;
use crate::{memory, retention, serve, sql};

/// Takes OTLP traces, keeps them durably, and says what they cost.
#[derive(Debug, Parser)]
#[command(name = "collector", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the collector.
    Serve(ServeArgs),
    /// Asks a running collector, or a data folder, an SQL question.
    Sql(SqlArgs),
    /// Shows what expires when.
    Retention(RetentionArgs),
}

/// How log lines look.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Options of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Folder for log and partitions; created when missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Address of OTLP/gRPC.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:4317")]
    pub(crate) grpc: SocketAddr,
    /// Address of OTLP/HTTP, SQL and the page.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:4318")]
    pub(crate) http: SocketAddr,
    /// A further address for Jaeger remote sampling alone (usual port: 5778); the HTTP port
    /// answers it too.
    #[arg(long, value_name = "ADDR")]
    pub(crate) sampling: Option<SocketAddr>,
    /// Policy with prices and classes (YAML). Without it the documented defaults hold.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// The addresses in use are written here as JSON once the collector is ready.
    #[arg(long, value_name = "FILE")]
    pub(crate) addresses_file: Option<PathBuf>,
    /// MiB of memory for the whole process. Near it spans are moved to partitions early; beyond it
    /// queries are refused, then clients are asked to wait. Default: 512, or what the shares below
    /// need.
    #[arg(long, value_name = "MIB")]
    pub(crate) memory_mib: Option<usize>,
    /// Most MiB of spans in memory; beyond it clients are asked to wait.
    #[arg(long, value_name = "MIB", default_value_t = 160)]
    pub(crate) hot_mib: usize,
    /// MiB of spans after which they are moved to a partition.
    #[arg(long, value_name = "MIB", default_value_t = 40)]
    pub(crate) generation_mib: usize,
    /// Seconds after which spans are moved to a partition.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) generation_age: u64,
    /// MiB of memory for recognising spans that are sent again.
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    pub(crate) dedup_mib: usize,
    /// MiB of requests in work at a time.
    #[arg(long, value_name = "MIB", default_value_t = 192)]
    pub(crate) in_flight_mib: usize,
    /// MiB of memory for traces under way; beyond it the trace that was quiet longest goes.
    #[arg(long, value_name = "MIB", default_value_t = 48)]
    pub(crate) assembly_mib: usize,
    /// Seconds that a parent may take to arrive before its spans are orphans.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) orphan_grace: u32,
    /// Alertmanager that is told of alerts whose policy names no webhook (`http://host:9093`).
    #[arg(long, value_name = "URL", value_parser = webhook)]
    pub(crate) alert_webhook: Option<String>,
    /// How log lines look. What is logged is set by TRACEMETER_LOG (default `info`).
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
}

/// Checks an address of a receiver as the policy does.
fn webhook(text: &str) -> Result<String, String> {
    if text.starts_with("http://") && text.len() > "http://".len() {
        Ok(text.to_owned())
    } else {
        Err("allowed: `http://HOST`, `http://HOST:PORT`, `http://HOST:PORT/PATH`".to_owned())
    }
}

/// Options of `sql`.
#[derive(Debug, Args)]
pub(crate) struct SqlArgs {
    /// The query. It may begin with an SQL comment.
    #[arg(allow_hyphen_values = true)]
    pub(crate) query: String,
    /// Address of a running collector.
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:4318",
        conflicts_with = "data"
    )]
    pub(crate) url: String,
    /// Reads a data folder instead of asking a running collector.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Policy for spans that are in the log only.
    #[arg(long, value_name = "FILE", requires = "data")]
    pub(crate) policy: Option<PathBuf>,
    /// How the answer looks.
    #[arg(long, value_parser = ["table", "json", "csv", "arrow"], default_value = "table")]
    pub(crate) format: String,
}

/// Runs the command that the process' arguments name. `give_back` gives free memory back to the
/// system.
#[must_use]
pub fn run(give_back: fn()) -> ExitCode {
    memory::set_give_back(give_back);
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string()),
    };
    let result = match cli.command {
        Command::Serve(args) => {
            log_to_stderr(args.log_format);
            runtime
                .block_on(serve::run(args))
                .map_err(|error| error.to_string())
        }
        Command::Retention(args) => retention::run(args).map_err(|error| error.to_string()),
        Command::Sql(args) => runtime
            .block_on(sql::run(args))
            .map_err(|error| error.to_string()),
    };
    // Threads that only wait must not hold up the end of the process.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(&message),
    }
}

fn fail(message: &str) -> ExitCode {
    use std::io::Write as _;
    // Nobody is left to tell when even standard error is closed.
    drop(writeln!(std::io::stderr(), "error: {message}"));
    ExitCode::FAILURE
}

fn log_to_stderr(format: LogFormat) {
    let filter =
        EnvFilter::try_from_env("TRACEMETER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}
