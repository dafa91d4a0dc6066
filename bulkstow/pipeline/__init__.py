"""scan -> inspect -> assemble -> send x N -> record: the stages, and how they are joined."""
