mod hostile;
mod kills;
mod operations;
mod prepare;
