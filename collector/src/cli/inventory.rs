//! `inventory generate`: an inventory of full size, without the service.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{CliError, say};
use crate::inventory::generate::{self, FILES, GenerateError, MediaShares, Profile, Wish};

#[derive(Debug, Subcommand)]
pub(super) enum InventoryCommand {
    /// Make an inventory of 6,918 access points from the table of divisions
    Generate(GenerateArgs),
}

#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    /// How the access points are spread over the levels
    #[arg(long, value_enum, default_value_t = Profile::A)]
    profile: Profile,
    /// The same seed gives the same files
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Percentages of fibre, mobile and satellite among townships
    #[arg(long, value_name = "F,M,S", default_value = "97,2,1", value_parser = shares)]
    township_media: [u32; 3],
    /// Percentages of fibre, mobile and satellite among villages
    #[arg(long, value_name = "F,M,S", default_value = "80,15,5", value_parser = shares)]
    village_media: [u32; 3],
    /// Folder for the files; made when it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

fn shares(text: &str) -> Result<[u32; 3], String> {
    let numbers: Result<Vec<u32>, _> = text.split(',').map(str::parse).collect();
    numbers
        .ok()
        .and_then(|numbers| <[u32; 3]>::try_from(numbers).ok())
        .ok_or_else(|| "use three whole numbers, as 80,15,5".to_owned())
}

pub(super) fn run(command: InventoryCommand) -> Result<(), CliError> {
    let InventoryCommand::Generate(args) = command;
    let wish = Wish {
        profile: args.profile,
        seed: args.seed,
        media: MediaShares {
            township: args.township_media,
            village: args.village_media,
        },
    };
    let generated = generate::generate(&wish).map_err(|error| match error {
        GenerateError::Shares { .. } => CliError::Usage(error.to_string()),
        error => CliError::Generate(error),
    })?;
    std::fs::create_dir_all(&args.out).map_err(|source| CliError::File {
        operation: "make",
        path: args.out.clone(),
        source,
    })?;
    generate::write(&generated, &args.out)?;
    say(&format!(
        "{} access points, {} targets, {} villages in {} ({})",
        generated.access_points.len(),
        generated.targets.len(),
        generated.villages.len(),
        args.out.display(),
        FILES.join(", ")
    ));
    Ok(())
}
