import QMCommands

ExportCommand.start()
