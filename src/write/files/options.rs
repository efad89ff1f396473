//! Options of the files target.

use indexmap::IndexMap;

use crate::secret::Secret;
use crate::write::formats::settings::Settings;

/// Root, credentials and sizes. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct FilesOptions {
    /// A folder (`out`, `/data/out`, `file:///data/out`), `s3://bucket/prefix`,
    /// `gs://bucket/prefix` or `az://container/prefix`.
    pub root: String,
    /// Settings of the object store, among them credentials: `aws_access_key_id`, `aws_region`,
    /// `endpoint`, `google_service_account`, `azure_storage_account_name` … Unused on local disk.
    pub settings: IndexMap<String, Secret>,
    /// Sizes of the files of tables that have no sizes of their own.
    pub files: Settings,
}
