//! `report build`: reads the catalogue beside the running service.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use time::Date;
use time::macros::format_description;

use super::{CliError, say};
use crate::config::Config;
use crate::inventory::LEVELS;
use crate::report::files::{About, CsvOptions, Headers, Output, Rendering, write};
use crate::report::{Language, Query, ReportError, source, tables};

#[derive(Debug, Subcommand)]
pub(super) enum ReportCommand {
    /// Write tables of coverage and availability into a folder. The service may go on running
    Build(BuildArgs),
}

#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    /// First day, as 2026-11-01 (Asia/Shanghai)
    #[arg(long, value_name = "DATE", value_parser = date)]
    from: Date,
    /// Day after the last one
    #[arg(long, value_name = "DATE", value_parser = date)]
    to: Date,
    /// Only what lies in this division, as 5401 or 540121
    #[arg(long, value_name = "CODE", default_value = "540000")]
    division: String,
    /// Only access points of these levels, separated by commas
    #[arg(long, value_name = "LEVELS", value_delimiter = ',', value_parser = LEVELS)]
    level: Vec<String>,
    /// Level of the rows of the overview [default: the one below the division]
    #[arg(long, value_name = "LEVEL", value_parser = LEVELS)]
    unit: Option<String>,
    /// What to write
    #[arg(
        long,
        value_enum,
        value_name = "FORMATS",
        value_delimiter = ',',
        default_value = "xlsx,csv,geojson"
    )]
    format: Vec<Rendering>,
    /// Language of labels and words; keys of columns stay the same
    #[arg(long, value_enum, default_value_t = Language::Zh)]
    lang: Language,
    /// First rows of CSV files
    #[arg(long, value_enum, default_value_t = Headers::Key)]
    csv_headers: Headers,
    /// Begin CSV files with a byte order mark
    #[arg(long)]
    csv_bom: bool,
    /// Folder for the files; made when it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

fn date(text: &str) -> Result<Date, String> {
    Date::parse(text, format_description!("[year]-[month]-[day]"))
        .map_err(|_| "use a date as 2026-11-01".to_owned())
}

pub(super) fn run(config: &Config, command: ReportCommand) -> Result<(), CliError> {
    let ReportCommand::Build(args) = command;
    let query = Query::new(
        args.from,
        args.to,
        &args.division,
        args.level,
        args.unit.as_deref(),
    )
    .map_err(|error| CliError::Usage(error.to_string()))?;
    let output = Output {
        renderings: args.format,
        language: args.lang,
        csv: CsvOptions {
            bom: args.csv_bom,
            headers: args.csv_headers,
        },
    };
    let facts = source::read(&config.state_dir, &query)?;
    let tables = tables::build(&facts, &query, output.language);
    let about = About::new(&facts, &query);
    std::fs::create_dir_all(&args.out).map_err(|source| ReportError::File {
        path: args.out.display().to_string(),
        source,
    })?;
    let files = write(&tables, &about, &query, &output, &args.out)?;
    say(&format!(
        "{} access points, {} files in {}: {}",
        facts.sites.len(),
        files.len(),
        args.out.display(),
        files.join(", ")
    ));
    Ok(())
}
