mod hostile;
mod inventory;
mod kept;
mod kills;
mod operations;
mod prepare;
