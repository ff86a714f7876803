CREATE TABLE `SsxProcessingGroup` (
  `ssxProcessingGroupId` INTEGER NOT NULL AUTO_INCREMENT,
  proposal VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  name VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  kind VARCHAR(45) NOT NULL,
  `dataCollectionGroupId` INTEGER,
  `createdBy` VARCHAR(45) NOT NULL,
  `createdAt` DATETIME NOT NULL,
  PRIMARY KEY (`ssxProcessingGroupId`),
  CONSTRAINT ssx_group_name UNIQUE (proposal, name)
);

CREATE TABLE `SsxProcessing` (
  `ssxProcessingId` INTEGER NOT NULL AUTO_INCREMENT,
  `processingKey` VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  `ssxProcessingGroupId` INTEGER,
  `dataCollectionGroupId` INTEGER,
  status VARCHAR(45) NOT NULL,
  attempts INTEGER NOT NULL,
  `startedBy` VARCHAR(45) NOT NULL,
  started DATETIME,
  ended DATETIME,
  message TEXT NOT NULL,
  folder TEXT NOT NULL,
  counts JSON NOT NULL,
  `autoProcProgramIds` JSON NOT NULL,
  settings JSON NOT NULL,
  versions JSON NOT NULL,
  PRIMARY KEY (`ssxProcessingId`),
  CONSTRAINT ssx_processing_key UNIQUE (`processingKey`),
  FOREIGN KEY(`ssxProcessingGroupId`) REFERENCES `SsxProcessingGroup` (`ssxProcessingGroupId`)
);

CREATE TABLE `SsxProcessingGroupMember` (
  `ssxProcessingGroupMemberId` INTEGER NOT NULL AUTO_INCREMENT,
  `ssxProcessingGroupId` INTEGER NOT NULL,
  `dataCollectionId` INTEGER NOT NULL,
  included BOOL NOT NULL,
  reason VARCHAR(255) NOT NULL,
  `changedBy` VARCHAR(45) NOT NULL,
  `changedAt` DATETIME NOT NULL,
  PRIMARY KEY (`ssxProcessingGroupMemberId`),
  CONSTRAINT ssx_member UNIQUE (`ssxProcessingGroupId`, `dataCollectionId`),
  FOREIGN KEY(`ssxProcessingGroupId`) REFERENCES `SsxProcessingGroup` (`ssxProcessingGroupId`)
);

CREATE TABLE `SsxChunk` (
  `ssxChunkId` INTEGER NOT NULL AUTO_INCREMENT,
  `ssxProcessingId` INTEGER NOT NULL,
  `chunkIndex` INTEGER NOT NULL,
  `chunkKey` VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  `frameStart` INTEGER NOT NULL,
  `frameStop` INTEGER NOT NULL,
  status VARCHAR(45) NOT NULL,
  attempts INTEGER NOT NULL,
  message TEXT NOT NULL,
  folder TEXT NOT NULL,
  counts JSON NOT NULL,
  `changedAt` DATETIME NOT NULL,
  PRIMARY KEY (`ssxChunkId`),
  CONSTRAINT ssx_chunk_index UNIQUE (`ssxProcessingId`, `chunkIndex`),
  FOREIGN KEY(`ssxProcessingId`) REFERENCES `SsxProcessing` (`ssxProcessingId`)
);
