//! What a run is: the types of `run.json`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::SCHEMA;

/// The contents of `run.json`. What a run does not know is empty or zero; [`RunInfo::new`] starts there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// The version of the run's formats, [`SCHEMA`].
    pub schema: u32,
    /// The run's name, any text: it is shown, and never used as a path.
    pub name: String,
    /// When it began, in UTC as RFC 3339 writes it; see [`timestamp`].
    pub created: String,
    /// How it stands.
    pub status: Status,
    /// The seed of all its random numbers.
    #[serde(default)]
    pub seed: u64,
    /// The number of threads that computed.
    #[serde(default)]
    pub threads: usize,
    /// The instruction set of the kernels: equal seeds give equal bits within one.
    #[serde(default)]
    pub isa: String,
    /// The dtype that products computed in.
    #[serde(default)]
    pub dtype: String,
    /// The whole configuration with every automatic choice written out.
    #[serde(default)]
    pub config: serde_json::Map<String, serde_json::Value>,
    /// The model.
    #[serde(default)]
    pub model: ModelInfo,
    /// The data.
    #[serde(default)]
    pub data: DataInfo,
    /// The program.
    #[serde(default)]
    pub code: CodeInfo,
}

impl RunInfo {
    /// A run that begins now.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            schema: SCHEMA,
            name: name.into(),
            created: timestamp(SystemTime::now()),
            status: Status::Running,
            seed: 0,
            threads: 0,
            isa: String::new(),
            dtype: String::new(),
            config: serde_json::Map::new(),
            model: ModelInfo::default(),
            data: DataInfo::default(),
            code: CodeInfo::default(),
        }
    }
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// It goes on, or its process was killed without a chance to say so.
    Running,
    /// It reached its last step.
    Finished,
    /// It was stopped and can be resumed.
    Interrupted,
    /// It ended with an error.
    Failed,
}

impl Status {
    /// The word in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }
}

/// The model of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelInfo {
    /// The preset's name, or the kind of model.
    pub preset: String,
    /// The number of parameters.
    pub parameters: u64,
}

/// The data of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataInfo {
    /// A hash of all of it, so that runs over the same data can be told.
    pub hash: String,
    /// Its tokens.
    pub tokens: u64,
    /// Its bytes of text.
    pub bytes: u64,
}

/// The program of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CodeInfo {
    /// Its version.
    pub version: String,
    /// A checksum of the program's own file, so that runs of the same program can be told; empty where it cannot be read.
    pub hash: String,
}

/// A time as RFC 3339 writes it, in UTC and whole seconds: `2026-11-20T08:30:00Z`.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// let leap_day = UNIX_EPOCH + Duration::from_secs(951_868_799);
/// assert_eq!(cupola_io::run::timestamp(leap_day), "2000-02-29T23:59:59Z");
/// ```
pub fn timestamp(time: SystemTime) -> String {
    // A clock before 1970 is set wrong; the epoch itself shows that as well as anything.
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from 1 March of year 0, so that the leap day is the last of a year and months follow a formula:
    // 146,097 days in 400 years; 153 days in five months from March on.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timestamps_are_right_at_the_borders_of_years_and_months() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
        assert_eq!(timestamp(UNIX_EPOCH - Duration::from_secs(5)), "1970-01-01T00:00:00Z");
    }
}
