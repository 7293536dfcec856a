//! The station as a whole: each rule by example, and all of them over random histories.

mod histories;
mod lanes;
mod machine;
mod oracle;
mod rules;
mod simulation;
mod views;
