//! Methods: those that read are answered here, orders are lines of the station's command set, given in the user's name.

mod arguments;

pub use arguments::METHODS;

use crate::results::{Filter, fields, recipe_id};
use crate::space::{Known, new_job};
use crate::users::User;
use crate::values::*;
use faprompt_client::{Client, ClientError};
use opcua::types::{DynEncodable, ExtensionObject, StatusCode, Variant};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The command set's codes for what is refused here already.
const NO_RECIPE: i32 = -206;
const NO_RESULT: i32 = -208;
const NOT_IN_THIS_MODE: i32 = -300;

/// What a method needs.
pub struct Call<'a> {
    /// The station.
    pub client: &'a Client,
    /// What is known of it.
    pub known: &'a Mutex<Known>,
    /// Who calls; `None`: whoever may read.
    pub user: Option<User>,
    /// What the client sent.
    pub arguments: &'a [Variant],
}

type Outputs = Result<Vec<Variant>, StatusCode>;

impl Call<'_> {
    /// Does what the method at this path does. May take as long as the station needs to answer.
    ///
    /// # Errors
    /// There is no such method, an argument is of another kind, or the station does not answer. What the station
    /// refuses is no error but the output `Error`: the command set's code, negative.
    pub fn run(&self, path: &str) -> Outputs {
        let (object, name) = path.rsplit_once('.').ok_or(StatusCode::BadMethodInvalid)?;
        let error = |code: i32| Ok(vec![code.into()]);
        match name {
            "Reset" | "ConfirmAll" => match (self.order("ACK")?, name) {
                (_, "ConfirmAll") => Ok(Vec::new()),
                (code, _) => error(code),
            },
            // Nobody switches a station off from afar.
            "Halt" => error(NOT_IN_THIS_MODE),
            // A station has no other mode.
            "SelectModeAutomatic" => error(0),
            "Stop" | "Abort" => error(self.order("DISARM")?),
            "StartContinuous" => {
                let code = self.order("ARM")?;
                let job = match code {
                    0 => {
                        let mut known = self.known();
                        (known.job, known.begun) = (new_job(), true);
                        known.job.clone()
                    }
                    _ => JobId::default(),
                };
                Ok(vec![value(job), code.into()])
            }
            "StartSingleJob" => {
                let code = self.order("TRIG")?;
                let job = self.known().job.clone();
                Ok(vec![value(job), code.into()])
            }
            "GetResultById" => {
                let result = self.result()?;
                let code = if result.is_some() { 0 } else { NO_RESULT };
                Ok(vec![
                    0u32.into(),
                    value(result.unwrap_or_default()),
                    code.into(),
                ])
            }
            "GetResultComponentsById" => {
                let result = self.result()?;
                let code = if result.is_some() { 0 } else { NO_RESULT };
                let mut outputs = fields(&result.unwrap_or_default());
                // The id is known to whoever asks by it.
                outputs[0] = false.into();
                outputs[1] = 0u32.into();
                outputs.push(code.into());
                Ok(outputs)
            }
            "GetResultListFiltered" => self.results(),
            "ReleaseResultHandle" => error(0),
            "GetRecipeListFiltered" => self.recipes(),
            "PrepareRecipe" => {
                let wanted = self.wanted()?;
                let (code, id) = self.prepare(&wanted)?;
                Ok(vec![value(id), (code == 0).into(), code.into()])
            }
            "UnprepareRecipe" => {
                let (_, id) = self.named(&self.wanted()?);
                Ok(vec![value(id), NOT_IN_THIS_MODE.into()])
            }
            "Prepare" => {
                let number = object.rsplit('.').next().unwrap_or_default();
                let (code, _) = self.prepare(number)?;
                Ok(vec![(code == 0).into(), code.into()])
            }
            // A station always has a recipe.
            "Unprepare" => error(NOT_IN_THIS_MODE),
            _ => Err(StatusCode::BadMethodInvalid),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an order; 0, or the code of its refusal, negative.
    fn order(&self, line: &str) -> Result<i32, StatusCode> {
        let user = self.user.as_ref().ok_or(StatusCode::BadUserAccessDenied)?;
        match user.order(self.client, line) {
            Ok(_) => {
                log::info!("{}: {line}", user.level);
                Ok(0)
            }
            Err(ClientError::Refused { code, text, .. }) => {
                log::warn!("{}: {line}: refused with code {code}: {text}", user.level);
                Ok(-i32::try_from(code).unwrap_or(i32::MAX))
            }
            Err(e) => {
                log::warn!("{}: {line}: {e}", user.level);
                Err(StatusCode::BadNoCommunication)
            }
        }
    }

    /// An argument that is a structure; one that is missing or null is empty.
    fn structure<T: DynEncodable + Default>(&self, place: usize) -> Result<T, StatusCode> {
        match self.arguments.get(place) {
            None | Some(Variant::Empty) => Ok(T::default()),
            Some(Variant::ExtensionObject(object)) if object.is_null() => Ok(T::default()),
            Some(Variant::ExtensionObject(object)) => {
                let object: ExtensionObject = object.clone();
                let inner = object.into_inner_as::<T>();
                inner
                    .map(|inner| *inner)
                    .ok_or(StatusCode::BadInvalidArgument)
            }
            Some(_) => Err(StatusCode::BadInvalidArgument),
        }
    }

    fn unsigned(&self, place: usize) -> Result<usize, StatusCode> {
        match self.arguments.get(place) {
            None | Some(Variant::Empty) => Ok(0),
            Some(Variant::UInt32(number)) => Ok(*number as usize),
            Some(_) => Err(StatusCode::BadInvalidArgument),
        }
    }

    fn integer(&self, place: usize) -> Result<i32, StatusCode> {
        match self.arguments.get(place) {
            None | Some(Variant::Empty) => Ok(0),
            Some(Variant::Int32(number)) => Ok(*number),
            Some(_) => Err(StatusCode::BadInvalidArgument),
        }
    }

    fn result(&self) -> Result<Option<ResultData>, StatusCode> {
        let wanted: ResultId = self.structure(0)?;
        let known = self.known();
        Ok(known
            .results
            .iter()
            .rev()
            .find(|r| r.result_id == wanted)
            .cloned())
    }

    fn results(&self) -> Outputs {
        let id = |id: opcua::types::UAString| id.as_ref().to_string();
        let others = [
            id(self.structure::<MeasId>(1)?.id),
            id(self.structure::<RecipeIdExternal>(3)?.id),
            id(self.structure::<ConfigurationId>(5)?.id),
            id(self.structure::<ProductId>(7)?.id),
        ];
        let filter = Filter {
            state: self.integer(0)?,
            part: id(self.structure::<PartId>(2)?.id),
            recipe: id(self.structure::<RecipeIdInternal>(4)?.id),
            configuration: id(self.structure::<ConfigurationId>(6)?.id),
            job: id(self.structure::<JobId>(8)?.id),
            other: others.iter().any(|other| !other.is_empty()),
        };
        let (most, start) = (self.unsigned(9)?, self.unsigned(10)?);
        let known = self.known();
        let all = known.results.iter().filter(|r| filter.fits(r));
        let (list, complete) = page(all, start, most);
        Ok(listed(list.into_iter().cloned(), complete))
    }

    fn recipes(&self) -> Outputs {
        let external: RecipeIdExternal = self.structure(0)?;
        let product: ProductId = self.structure(1)?;
        let prepared = self.integer(2)?;
        let (most, start) = (self.unsigned(3)?, self.unsigned(4)?);
        let none = !external.id.is_empty() || !product.id.is_empty();
        let known = self.known();
        // TriStateBooleanDataType: 0 no, 1 yes, 2 either.
        let fits =
            |r: &&crate::station::Recipe| !none && (prepared == 2 || r.in_use == (prepared == 1));
        let (list, complete) = page(known.recipes.iter().filter(fits), start, most);
        let id = |r: &crate::station::Recipe| recipe_id(&r.number.to_string(), &r.name);
        Ok(listed(list.into_iter().map(id), complete))
    }

    /// The recipe that is named in the arguments.
    fn wanted(&self) -> Result<String, StatusCode> {
        let internal: RecipeIdInternal = self.structure(1)?;
        let external: RecipeIdExternal = self.structure(0)?;
        let id = if internal.id.is_empty() {
            external.id
        } else {
            internal.id
        };
        Ok(id.as_ref().to_string())
    }

    /// A recipe by number or name: its number, 0 if there is none, and its id.
    fn named(&self, wanted: &str) -> (u32, RecipeIdInternal) {
        let known = self.known();
        let mut all = known.recipes.iter();
        let found = all
            .find(|r| r.number.to_string() == wanted || (!wanted.is_empty() && r.name == wanted));
        found.map_or((0, RecipeIdInternal::default()), |r| {
            (r.number, recipe_id(&r.number.to_string(), &r.name))
        })
    }

    fn prepare(&self, wanted: &str) -> Result<(i32, RecipeIdInternal), StatusCode> {
        let (number, id) = self.named(wanted);
        let code = match number {
            0 => NO_RECIPE,
            number => self.order(&format!("RECIPE {number}"))?,
        };
        Ok((code, id))
    }
}

/// So many from a place on (0: all), and whether these were the last.
fn page<T>(all: impl Iterator<Item = T>, start: usize, most: usize) -> (Vec<T>, bool) {
    let most = if most == 0 { usize::MAX } else { most };
    let mut rest = all.skip(start);
    let list: Vec<T> = rest.by_ref().take(most).collect();
    (list, rest.next().is_none())
}

/// What both lists answer: whether these were the last, how many, no handle to ask for more by, the list, no refusal.
fn listed<T: DynEncodable>(list: impl Iterator<Item = T>, complete: bool) -> Vec<Variant> {
    let list: Vec<ExtensionObject> = list.map(ExtensionObject::from_message).collect();
    let count = list.len() as u32;
    vec![
        complete.into(),
        count.into(),
        0u32.into(),
        list.into(),
        0i32.into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn a_page_knows_whether_it_is_the_last() {
        assert_eq!(page(0..5, 0, 0), (vec![0, 1, 2, 3, 4], true));
        assert_eq!(page(0..5, 1, 2), (vec![1, 2], false));
        assert_eq!(page(0..5, 3, 2), (vec![3, 4], true));
        assert_eq!(page(0..5, 9, 2), (vec![], true));
    }
}
