import QMCommands

InspectCommand.start()
