mod hostile;
mod inventory;
mod kills;
mod operations;
mod prepare;
