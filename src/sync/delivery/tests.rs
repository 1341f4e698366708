mod charges;
mod simulation;
